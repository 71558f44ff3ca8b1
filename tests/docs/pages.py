"""What stands on the pages of the documentation: their blocks, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = ("sh", "bash", "console")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """The page's blocks in any of these languages."""
    return [found[2] for found in BLOCK.finditer(page.read_text(encoding="utf-8")) if found[1] in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind `peftlab` of each command on the page, in their order."""
    for block in blocks(page, *SHELLS):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|(?!\|)|;", line.removeprefix("$ ")):
                words = shlex.split(part, comments=True) if part.count("'") % 2 == 0 else []
                if words[:1] == ["peftlab"] and len(words) > 1:
                    yield words[1:]
