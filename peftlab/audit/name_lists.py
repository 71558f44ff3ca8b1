"""Lists of names and of words for persons, by language, axis and group; a file of one's own has the same form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peftlab.core.config import Document, read_yaml
from peftlab.core.counterfactuals import CHINESE_GENDER_WORDS, GENDER_WORDS
from peftlab.core.errors import ConfigError

Language = Literal["en", "zh"]
Names = dict[str, dict[str, list[str]]]
"""Axis to group to names."""
LISTS = Path(__file__).parent / "word_lists"
TEMPLATES: Mapping[Language, str] = {"en": "{name} wrote: {text}", "zh": "{name}写道：{text}"}
PRONOUNS: Mapping[Language, Mapping[str, str]] = {"en": GENDER_WORDS, "zh": CHINESE_GENDER_WORDS}


@dataclass(frozen=True)
class NameList:
    """One axis.

    Args:
        source: Where the names come from.
        groups: Group to names.
    """

    source: str
    groups: Mapping[str, list[str]]


def built_in_lists(language: Language) -> dict[str, NameList]:
    """What is shipped, by axis."""
    found = {}
    for path in sorted((LISTS / language).glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = NameList(values["source"], values["groups"])
    return found


def read_lists(path: Path) -> Names:
    """A file of one's own: ``{gender: {female: [Mary, …], male: […]}, age: …}`` in YAML or JSON.

    Raises:
        ConfigError: It cannot be read, or has another form.
    """
    document = read_yaml(path)
    if not document.values:
        raise document.error((), "there is no list in this file", "Write such as `age: {old: [Enid], young: [Kim]}`.")
    return {str(axis): _groups(document, str(axis), groups) for axis, groups in document.values.items()}


def _groups(document: Document, axis: str, groups: object) -> dict[str, list[str]]:
    if not isinstance(groups, dict) or not groups:
        raise document.error((axis,), f"groups with names are needed, not {groups!r}", "As in {old: [Enid, Edith]}.")
    found = {}
    for group, names in groups.items():
        if (
            not isinstance(names, list)
            or not names
            or not all(isinstance(name, str) and name.strip() for name in names)
        ):
            raise document.error((axis, str(group)), "a list of names is needed", "Put quotes round names such as No.")
        found[str(group)] = [name.strip() for name in names]
    return found


def joined(*parts: Names) -> Names:
    """All axes, groups and names, each name once in its group."""
    axes: Names = {}
    for part in parts:
        for axis, groups in part.items():
            for group, names in groups.items():
                own = axes.setdefault(axis, {}).setdefault(group, [])
                own += [name for name in names if name not in own]
    return axes


def check_template(template: str, key: str) -> None:
    """Refuse a template without its two places.

    Raises:
        ConfigError: Naming the key.
    """
    if not all(part in template for part in ("{name}", "{text}")):
        raise ConfigError("the template needs {name} and {text}", where=key)
