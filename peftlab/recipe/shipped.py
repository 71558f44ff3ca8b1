"""The recipes that come with peftlab, by name: a wheel carries them, a checkout has them in ``recipes/``."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peftlab.core.errors import closest

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT, _WHEEL = _PACKAGE.parent / "recipes", _PACKAGE / "shipped_recipes"


def shipped_recipes() -> dict[str, Path]:
    """Every recipe's file by its name, such as ``tweet_sentiment/minilm_lora``."""
    folder = _CHECKOUT if (_CHECKOUT.parent / "pyproject.toml").is_file() else _WHEEL
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_recipe(name: Path | str) -> Path:
    """A recipe's file: the path itself where something is there, else the shipped recipe of that name."""
    path = Path(name)
    return path if path.exists() else shipped_recipes().get(_name_of(path), path)


def _name_of(path: Path) -> str:
    return path.as_posix().removeprefix("recipes/").removesuffix(".yaml")


def near_shipped(path: Path) -> str | None:
    """The hint for a missing file: the shipped recipe with nearly this name, with its folder or without."""
    names = {name.rpartition("/")[2]: name for name in shipped_recipes()} | {name: name for name in shipped_recipes()}
    near = closest(_name_of(path), names)
    return None if near is None else f"Did you mean `{names[near]}`, a recipe that comes with peftlab?"


def comments_of(recipe: Path) -> list[str]:
    """The comments at a recipe's top: the first line describes it, the others say such things as where its data is."""
    lines = recipe.read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    return [line for line in comments if not line.startswith("yaml-language-server")]


def missing_data(recipe: Path) -> list[str]:
    """The files and folders of data that a recipe names and that are not there: it does not run as it is."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from peftlab.core.errors import SourceError
    from peftlab.data.data_folders import data_folders
    from peftlab.data.locations import parse_location

    missing = []
    try:
        addresses = list(_sources(YAML(typ="safe").load(recipe)))
    except (YAMLError, UnicodeDecodeError):  # `validate` says what is wrong with it
        return []
    for address in addresses:
        with contextlib.suppress(SourceError):
            path = parse_location(address, folder=recipe.parent, further=data_folders()).path
            missing += [address] if path is not None and not path.exists() else []
    return missing


def _sources(value: Any) -> Iterator[str]:
    """All addresses below a key `source`, of one table or of several."""
    for item in value if isinstance(value, list) else ():
        yield from _sources(item)
    for key, item in value.items() if isinstance(value, dict) else ():
        if key == "source":
            found = item.values() if isinstance(item, dict) else [item]
            yield from (address for address in found if isinstance(address, str))
        else:
            yield from _sources(item)


def said_at_top(source: str) -> list[str]:
    """What a shipped recipe says at its top, such as where its data comes from; nothing of any other file."""
    path = Path(source)
    return comments_of(path) if path.is_file() and path.resolve() in shipped_recipes().values() else []
