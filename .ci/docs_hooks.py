"""What the site shows that no page holds: the keys of a recipe from its schema; and links that leave the folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)(?:#[^)]*)?\)")
PYTHON = """# Python

::: peftlab
    options:
      members: [Recipe, load_recipe, run_recipe, RunResult, load, LoadedRun, wrap, Callback, RunRecord, read_record]
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the reference."""
    files.append(File.generated(config, "reference/recipe.md", content=recipe_page()))
    files.append(File.generated(config, "reference/python.md", content=PYTHON))
    # A guide that the navigation does not name is found there too.
    known = str(config.nav)
    guides = next(part["Guides"] for part in config.nav if "Guides" in part)
    for file in files.documentation_pages():
        if file.src_uri not in known and "/" not in file.src_uri:
            guides.append(file.src_uri)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files beside docs/ are shown as their paths; they must exist."""

    def shown(match: re.Match[str]) -> str:
        target = (ROOT / "docs" / Path(page.file.src_uri).parent / match[2]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return match[0]  # a page; mkdocs checks it itself
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: there is no {match[2]}")
        return f"{match[1]} (`{target.relative_to(ROOT)}`)"

    return OUTSIDE.sub(shown, markdown)


def recipe_page() -> str:
    """The keys of a recipe, from its schema."""
    from peftlab.recipe.json_schema import recipe_schema

    schema = recipe_schema()
    lines = ["# Keys of a recipe", "", "Made from `peftlab schema recipe`.", ""]
    lines += _table("At the top", schema["properties"])
    for name, definition in sorted(schema["$defs"].items(), key=lambda item: ("." in item[0], item[0])):
        if definition.get("properties"):
            lines += _table(name.replace(".", ": ", 1), definition["properties"], definition.get("description", ""))
    return "\n".join(lines)


def _table(title: str, properties: dict[str, Any], text: str = "") -> list[str]:
    rows = [f"## {title}", "", text.split("\n\n")[0], "", "| key | default | meaning |", "|---|---|---|"]
    for key, value in properties.items():
        default = f"`{value['default']}`" if "default" in value else ""
        meaning = str(value.get("description", "")).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
        meaning = meaning.replace("[", "\\[")
        rows.append(f"| `{key}` | {default.replace('|', chr(92) + '|')} | {meaning} |")
    return [*rows, ""]
