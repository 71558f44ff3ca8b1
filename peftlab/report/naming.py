"""Names of methods that are unique in a report, and short labels for tables and figures.

Runs often share a name, as those of one recipe with another ``method.type`` do. Then the settings in which they differ
tell them apart, as few as it takes: the method's type first, then whatever splits the rest into most parts.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from peftlab.report.entry import Entry

Cell = tuple[str, str]
"""The name of a run, and its recipe without name and seed as JSON."""
TYPE, SET = "method.type", "set"
LONGEST_VALUE = 28
LONGEST_LABEL = 40
SECTIONS = ("method", "model", "training", "data", "task")
"""Where a difference is looked for first."""

Settings = Mapping[str, Any]
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Key:
    """What runs must share to be compared."""

    origin: str
    task: str
    model: str
    fingerprint: str
    metric: str
    split: str
    axis: str


Names = dict[tuple[Key, Cell], str]
"""A name for every method of every comparison."""


def unique_names(cells: Mapping[Key, Mapping[Cell, list[Entry]]]) -> Names:
    """A name for every method of the report: the run's own, and what tells it from others of that name."""
    names: Names = {}
    for name, places in _by_name(cells).items():
        differences = distinguish({(key, cell): _facts(key, cells[key][cell][0]) for key, cell in places})
        for place, values in differences.items():
            names[place] = f"{name} ({', '.join(values)})" if values else name
    return _numbered(names)


def run_names(entries: Sequence[Entry], compared: Mapping[str, str]) -> dict[str, str]:
    """A name for every run, those that are not compared included, by the path that is shown.

    Args:
        entries: Every run.
        compared: The methods' names of those that are.
    """
    by_name: dict[str, dict[str, Settings]] = defaultdict(dict)
    for entry in entries:
        by_name[entry.name][_as_json(entry.settings)] = entry.settings
    words = {name: distinguish(of_name) for name, of_name in by_name.items()}
    names = {}
    for entry in entries:
        values = words[entry.name][_as_json(entry.settings)]
        own = f"{entry.name} ({', '.join(values)})" if values and entry.suite is None else entry.name
        names[entry.shown_path] = compared.get(entry.shown_path, own)
    return names


def method_labels(cells: Mapping[Key, Mapping[Cell, list[Entry]]]) -> Names:
    """A short label for every method, unique in its comparison: its name, or where others have it too, its settings.

    A name that all methods of a comparison share says nothing there and is left out.
    """
    shared = {name: _types_differ(cells, places) for name, places in _by_name(cells).items()}
    labels: Names = {}
    for key, found in cells.items():
        own_names = list(dict.fromkeys(name for name, _ in found))
        short = dict(zip(own_names, short_labels(own_names), strict=True))
        parts: dict[Cell, list[str]] = {}
        for name in own_names:
            facts = {cell: _with_set(cells[key][cell][0]) for cell in found if cell[0] == name}
            parts |= distinguish(facts, always_type=shared[name])
        texts = []
        for cell, values in parts.items():
            with_name = not values or len(own_names) > 1
            texts.append(", ".join([short[cell[0]]] * with_name + values))
        labels |= {(key, cell): label for cell, label in zip(parts, _cut_labels(texts), strict=True)}
    return _numbered(labels, by_comparison=True)


def _cut_labels(texts: Sequence[str]) -> list[str]:
    """Long labels without their middle, except those that would then be alike."""
    cut = [_cut(text, LONGEST_LABEL) for text in texts]
    return [short if cut.count(short) == 1 else text for short, text in zip(cut, texts, strict=True)]


def _by_name(cells: Mapping[Key, Mapping[Cell, list[Entry]]]) -> dict[str, list[tuple[Key, Cell]]]:
    alike: dict[str, list[tuple[Key, Cell]]] = defaultdict(list)
    for key, found in cells.items():
        for cell in found:
            alike[cell[0]].append((key, cell))
    return alike


def _types_differ(cells: Mapping[Key, Mapping[Cell, list[Entry]]], places: Sequence[tuple[Key, Cell]]) -> bool:
    return len({str(cells[key][cell][0].settings.get(TYPE)) for key, cell in places}) > 1


def _facts(key: Key, entry: Entry) -> dict[str, Any]:
    """What can tell a method from another one of the report."""
    others = {"model": key.model, "axis": key.axis, "metric": key.metric, "split": key.split}
    return {**_with_set(entry), **others, "fingerprint": key.fingerprint[:8]}


def _with_set(entry: Entry) -> dict[str, Any]:
    return {SET: entry.set_name, **entry.settings}


def distinguish(settings: Mapping[T, Settings], *, always_type: bool = False) -> dict[T, list[str]]:
    """For each of several methods the settings, in words, that tell it from all the others.

    Args:
        settings: Of each method, flat.
        always_type: Whether the method's type is told although all have the same.
    """
    if len(settings) < 2 and not always_type:
        return {method: [] for method in settings}
    key = TYPE if always_type else _telling_key(list(settings.values()))
    if key is None:
        return {method: [] for method in settings}
    parts: dict[str, list[T]] = defaultdict(list)
    for method, values in settings.items():
        parts[_as_json(values.get(key))].append(method)
    words = _distinct_words(key, {part: settings[members[0]].get(key) for part, members in parts.items()})
    found: dict[T, list[str]] = {}
    for part, members in parts.items():
        rest = distinguish({method: settings[method] for method in members})
        found |= {method: [words[part], *more] for method, more in rest.items()}
    return {method: found[method] for method in settings}


def _telling_key(settings: Sequence[Settings]) -> str | None:
    """The key to tell methods apart by: the type, else the set, else the one with most values, of the first section."""
    counts = {key: len({_as_json(values.get(key)) for values in settings}) for values in settings for key in values}
    differing = [key for key, count in counts.items() if count > 1]
    return min(differing, key=lambda key: (key != TYPE, key != SET, -counts[key], _section(key)), default=None)


def _section(key: str) -> int:
    section = key.partition(".")[0]
    return SECTIONS.index(section) if section in SECTIONS else len(SECTIONS)


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _distinct_words(key: str, values: Mapping[str, Any]) -> dict[str, str]:
    words = {part: setting_words(key, value) for part, value in values.items()}
    if len(set(words.values())) == len(words):
        return words
    if all(isinstance(value, list) and value for value in values.values()):
        return {part: "+".join(_item_words(item, all_keys=True) for item in value) for part, value in values.items()}
    return {part: f"{key.rpartition('.')[2]} {part.strip(chr(34))}" for part in values}


def setting_words(key: str, value: Any) -> str:
    """A setting in a word or two: ``lora``, ``rank 8``, ``query+value``, ``no quantization``, ``tweets.csv``."""
    name = key.rpartition(".")[2]
    if value is None or value is False or value in ({}, []):
        return f"no {name}"
    if value is True:
        return name
    if isinstance(value, int | float):
        return f"{name} {value:g}" if isinstance(value, float) or abs(value) < 1e6 else f"{name} {value}"
    if isinstance(value, list):
        value = "+".join(_item_words(item) for item in value)
    return _cut(last_part(str(value)), LONGEST_VALUE)


def _item_words(item: Any, *, all_keys: bool = False) -> str:
    """An item of a list: ``query``; of one with a type, such as a regulariser, ``fgm``, or ``fgm epsilon=0.5``."""
    if not isinstance(item, Mapping) or "type" not in item:
        return str(item)
    rest = [f"{key}={value}" for key, value in item.items() if key != "type" and value is not None]
    return " ".join([str(item["type"]), *(rest if all_keys else ())])


def last_part(path: str) -> str:
    """``pypi:DIST==VERSION/PATH`` → DIST where PATH names no file; the last part of a folder, file or Hub id."""
    last = path.rstrip("/").rpartition("/")[2]
    if path.startswith("pypi:") and "." not in last:
        return re.split("==|/", path.removeprefix("pypi:"))[0]
    return last


def _cut(text: str, longest: int) -> str:
    """A long text by both its ends."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"


def _numbered(names: Names, *, by_comparison: bool = False) -> Names:
    """Names that still clash, in the report or in a comparison, get a number."""
    taken: dict[Key | None, set[str]] = defaultdict(set)
    for (key, _), name in names.items():
        taken[key if by_comparison else None].add(name)
    seen: set[tuple[Key | None, str]] = set()
    numbered = {}
    for (key, cell), name in names.items():
        place = key if by_comparison else None
        unique = name
        if (place, name) in seen:  # a run may be called `x #2` itself
            unique = next(new for number in itertools.count(2) if (new := f"{name} #{number}") not in taken[place])
            taken[place].add(unique)
        seen.add((place, name))
        numbered[key, cell] = unique
    return numbered


def short_labels(names: Sequence[str]) -> list[str]:
    """Names without the words, between hyphens, that all have; the names themselves where that leaves nothing."""
    words = [re.split(r"-+", name) for name in names]
    common = set(words[0]).intersection(*words[1:]) if words else set()
    labels = ["-".join(word for word in of_name if word not in common) for of_name in words]
    return labels if all(labels) and len(set(labels)) == len(names) else list(names)
