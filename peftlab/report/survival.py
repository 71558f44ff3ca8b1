"""How far models go before their first error, by the length of the tape: for runs of Turing machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.report.comparison import Comparison
from peftlab.report.entry import Entry
from peftlab.report.machine_predictions import TASK, read_machine_runs
from peftlab.report.table import Cell, Table

SPLITS = ("test", "test_longer_tapes")
"""The same machines on tapes of the trained lengths, and on longer ones."""


@dataclass(frozen=True)
class Survival:
    """One method's, or that of a model without error.

    Args:
        number: Of the method in its comparison.
        name: Of the method.
        steps: By cells of the tape: steps before a run's first error, means over runs and seeds.
    """

    number: int
    name: str
    steps: Mapping[int, float]


def survivals(comparison: Comparison, most: int) -> list[Survival]:
    """Of the methods with the best means, and last of a model that makes no error; empty for other tasks."""
    if comparison.key.task != TASK:
        return []
    found: list[Survival] = []
    possible: dict[int, float] = {}
    for number, method in enumerate(comparison.methods[:most]):
        survived, steps = _by_length(method.entries)
        possible = possible or steps
        if survived:
            found.append(Survival(number, method.label, survived))
    return [*found, Survival(len(comparison.methods), "all steps", possible)] if found else []


def _by_length(entries: Sequence[Entry]) -> tuple[dict[int, float], dict[int, float]]:
    """Steps survived and all steps: means over the runs of all seeds, which have the same runs."""
    runs = [run for entry in entries for split in SPLITS for run in read_machine_runs(entry.path, split)]
    survived: dict[int, list[int]] = defaultdict(list)
    steps: dict[int, list[int]] = defaultdict(list)
    for run in runs:
        survived[run.tape_length].append(run.survived)
        steps[run.tape_length].append(len(run.right))
    return _means(survived), _means(steps)


def _means(counts: Mapping[int, Sequence[int]]) -> dict[int, float]:
    return {length: float(np.mean(counts[length])) for length in sorted(counts)}


def trained_length(comparison: Comparison) -> int | None:
    """Cells of the longest tape in training, where the recipes say it."""
    length = comparison.methods[0].entries[0].settings.get("task.tape_length")
    return length if isinstance(length, int) else None


def survival_table(found: Sequence[Survival]) -> Table | None:
    """The figure's values."""
    if not found:
        return None
    rows: list[list[Cell]] = [[one.name, *(f"{value:.2f}" for value in one.steps.values())] for one in found]
    return Table("Steps survived, by cells of the tape", ["method", *map(str, found[0].steps)], rows)
