"""A recipe's plain values as a program gives them, in the place of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from peftlab.core.config import Document, KeyPath, whole_characters
from peftlab.core.errors import ConfigError
from peftlab.data.data_config import SplitSources
from peftlab.data.given import GivenRows, given_rows


def document_of(values: Any) -> Document:
    """Plain values that a program gives in the place of a file.

    Raises:
        ConfigError: They are no mapping of names to values, or ``data.source`` is no source.
        DataError: The rows that are given are no table.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"a mapping of keys to values is needed, not a {type(values).__name__}",
            where="recipe",
            hint="A file is read by peftlab.load_recipe(path).",
        )
    name = values.get("name")
    source = name if isinstance(name, str) and name else "recipe"
    return Document(source=source, values=_plain(values, source, ()))


def _plain(value: Any, source: str, path: KeyPath) -> Any:
    """A value of Python's as YAML would give it; sections that are configurations already stay what they are."""
    place = f"{source}: {'.'.join(map(str, path))}"
    is_split = path[:2] == ("data", "source") and len(path) == 3 and path[2] in SplitSources.model_fields
    if isinstance(value, PurePath):
        return str(value)
    if value is not None and (is_split or path == ("data", "source")) and not _is_address(value, is_split):
        return given_rows(value, where=place)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"a key must be a plain word, not {key!r}", where=place.removesuffix(": "))
        return {_text(key, place): _plain(item, source, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, source, (*path, at)) for at, item in enumerate(value)]
    if type(value) is str:
        return _text(value, place)
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    return value


def _text(value: str, place: str) -> str:
    try:
        return whole_characters(value)
    except UnicodeError:
        raise ConfigError(
            f"{value!a} holds half a surrogate pair, which no file can", where=place.removesuffix(": ")
        ) from None


def _is_address(value: Any, is_split: bool) -> bool:
    """Whether a source is what YAML can hold, or was taken already."""
    return isinstance(value, str | GivenRows | SplitSources) or (type(value) is dict and not is_split)


def name_of(values: Mapping[str, Any]) -> str:
    """A name for a recipe without one: its task and its method."""
    found = []
    for key in ("task", "method"):
        section = values.get(key)
        name = section.get("type") if isinstance(section, Mapping) else getattr(section, "registered_name", None)
        found += [name] if isinstance(name, str) and name else []
    return "-".join(found) or "recipe"
