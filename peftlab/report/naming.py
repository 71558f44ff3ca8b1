"""Names of methods that are unique in a report, short labels for figures, and titles of comparisons."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from peftlab.report.entry import Entry

Cell = tuple[str, str]
"""The name of a run, and its recipe without name and seed as JSON."""


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
    alike: dict[str, list[tuple[Key, Cell]]] = defaultdict(list)
    for key, found in cells.items():
        for cell in found:
            alike[cell[0]].append((key, cell))
    names: Names = {}
    for name, places in alike.items():
        settings = [_distinguishing(key, cells[key][cell][0]) for key, cell in places]
        differing = [
            option
            for option in _all_keys(settings)
            if len({json.dumps(s.get(option), default=str) for s in settings}) > 1
        ]
        for place, values in zip(places, settings, strict=True):
            suffix = ", ".join(f"{option.rpartition('.')[2]} {values.get(option)}" for option in differing[:3])
            names[place] = f"{name} ({suffix})" if suffix else name
    return _numbered(names)


def _distinguishing(key: Key, entry: Entry) -> dict[str, Any]:
    return {**entry.settings, "fingerprint": key.fingerprint[:8], "split": key.split}


def _all_keys(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(option for values in settings for option in values))


def _numbered(names: Names) -> Names:
    """Names that still clash get a number."""
    counts: dict[str, int] = defaultdict(int)
    numbered = {}
    for place, name in names.items():
        counts[name] += 1
        numbered[place] = name if counts[name] == 1 else f"{name} #{counts[name]}"
    return numbered


def short_labels(names: Sequence[str]) -> list[str]:
    """Names without the words, between hyphens, that all have; the names themselves where that leaves nothing."""
    words = [re.split(r"-+", name) for name in names]
    common = set(words[0]).intersection(*words[1:]) if words else set()
    labels = ["-".join(word for word in of_name if word not in common) for of_name in words]
    return labels if all(labels) and len(set(labels)) == len(names) else list(names)


class Titled(Protocol):
    """The part of a comparison that its title is made of."""

    @property
    def key(self) -> Key:
        """What its runs share."""

    @property
    def rows(self) -> Mapping[str, int]:
        """Examples of each split."""

    @property
    def data(self) -> str:
        """What the data is called."""

    @property
    def metric(self) -> str:
        """What methods are ranked by."""


def _short_model(path: str) -> str:
    """``pypi:DIST==VERSION/PATH`` → DIST; the last part of a folder or a Hub id."""
    if path.startswith("pypi:"):
        return re.split("==|/", path.removeprefix("pypi:"))[0]
    return path.rstrip("/").rpartition("/")[2]


def comparison_titles(comparisons: Sequence[Titled]) -> list[str]:
    """What tells the comparisons apart."""
    parts = [
        {
            "axis": comparison.key.axis.replace("--", ", "),
            "data": comparison.data,
            "model": _short_model(comparison.key.model),
            "task": comparison.key.task,
            "metric": comparison.metric,
            "split": comparison.key.split,
            "rows": f"{comparison.rows['train']:,} training examples" if "train" in comparison.rows else "",
            "fingerprint": f"data {comparison.key.fingerprint[:8]}",
        }
        for comparison in comparisons
    ]
    shown: list[str] = []
    for part in ("axis", "data", "model", "rows", "task", "metric", "split", "fingerprint"):
        titles = [tuple(values[name] for name in shown) for values in parts]
        if len(set(titles)) == len(titles):
            break
        if len({values[part] for values in parts}) > 1:
            shown.append(part)
    if not shown:
        return [f"{values['data']} · {values['model']}" for values in parts]
    return [" · ".join(values[name] for name in shown if values[name]) for values in parts]
