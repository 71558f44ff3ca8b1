"""Titles of reports and of comparisons: they say what is in the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from peftlab.core.amounts import plural
from peftlab.report import wording
from peftlab.report.entry import OWN, Entry
from peftlab.report.naming import Key, last_part


def title_within_suite(suite: str, axis: str) -> str:
    """What tells the runs of one place on a suite's axes from those of others."""
    return f"{suite}, {axis.replace('--', ', ')}" if axis else suite


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

    @property
    def set_name(self) -> str:
        """The suite, or the folder of published results, that its runs come from."""


def comparison_titles(comparisons: Sequence[Titled]) -> list[str]:
    """What tells the comparisons apart."""
    parts = [
        {
            "axis": comparison.key.axis.replace("--", ", "),
            "data": comparison.data,
            "model": last_part(comparison.key.model),
            "task": comparison.key.task,
            "metric": comparison.metric,
            "split": comparison.key.split,
            "rows": f"{comparison.rows['train']:,} training examples" if "train" in comparison.rows else "",
            "set": comparison.set_name,
            "fingerprint": f"data {comparison.key.fingerprint[:8]}",
        }
        for comparison in comparisons
    ]
    shown: list[str] = []
    for part in ("axis", "data", "model", "rows", "task", "metric", "split", "set", "fingerprint"):
        titles = [tuple(values[name] for name in shown) for values in parts]
        if len(set(titles)) == len(titles):
            break
        if len({values[part] for values in parts}) > 1:
            shown.append(part)
    if not shown:
        return [f"{values['data']} · {values['model']}" for values in parts]
    return [" · ".join(values[name] for name in shown if values[name]) for values in parts]


def report_title(entries: Sequence[Entry], suites: Sequence[str], methods: int, comparisons: int) -> str:
    """A title that fits what was found.

    Args:
        entries: Every run.
        suites: Names of the suites.
        methods: How many are compared.
        comparisons: How many there are.
    """
    loose = [entry for entry in entries if entry.suite is None]
    origins = {entry.origin for entry in entries}
    if suites:
        return wording.listing([*suites, *[plural(len(loose), "other run")] * bool(loose)])
    if origins != {OWN} and len(origins) == 1:
        return origins.pop()
    if not comparisons:
        return f"{plural(len(loose), 'run')}, none to compare"
    names = {entry.name for entry in loose}
    if len(loose) == 1 or (len(names) == 1 and methods == 1):
        return names.pop()
    what = plural(methods, "method")
    where = f" in {comparisons} comparisons" if comparisons > 1 else ""
    return f"{names.pop()}: {what}{where}" if len(names) == 1 else f"Comparison of {what}{where}"
