"""What reports show of machines: how far models go before their first error, by the length of the tape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from peftlab.core.report_parts import ComparedMethod, Line, ReportPart, Units
from peftlab.tasks.turing_machine.runs import MachineRun, machine_runs, scores_of_runs

SPLITS = ("test", "test_longer_tapes")
"""The same machines on tapes of the trained lengths, and on longer ones."""


def units_of_runs(scores: Sequence[Sequence[float]]) -> Units | None:
    """Whole runs, put together from their steps: how many steps there are, and how many before the first error."""
    runs = machine_runs(scores)
    if not runs:
        return None
    return Units(
        index=[run.number for run in runs],
        labels=[len(run.right) for run in runs],
        predictions=[run.survived for run in runs],
        per_unit=lambda metric: scores_of_runs(metric, runs),
    )


def survival_part(methods: Sequence[ComparedMethod]) -> ReportPart | None:
    """Steps survived against the length of the tape, of each method and last of a model that makes no error."""
    lines: list[Line] = []
    possible: dict[int, float] = {}
    for method in methods:
        survived, steps = _by_length(_runs(method))
        possible = possible or steps
        if survived:
            lines.append(Line(method.number, method.name, list(survived.items())))
    if not lines:
        return None
    lines.append(Line(None, "all steps", list(possible.items())))
    note = "Means over runs and seeds; the uppermost line is that of a model without error."
    trained_length = methods[0].settings.get("task.tape_length")
    if isinstance(trained_length, int):
        note += f" The tapes in training had {trained_length} cells at most."
    return ReportPart(
        heading="Machines",
        title="Steps survived × tape length",
        x="cells of the tape",
        y="steps before the first error",
        lines=lines,
        note=note,
        table_title="Steps survived, by cells of the tape",
        columns=["method", *(str(int(length)) for length, _ in lines[0].points)],
        rows=[[line.name, *(f"{value:.2f}" for _, value in line.points)] for line in lines],
    )


def _runs(method: ComparedMethod) -> list[MachineRun]:
    """Those of all seeds, which have the same runs."""
    of_splits = [method.scores(split) for split in SPLITS]
    return [run for of_seeds in zip(*of_splits, strict=True) for scores in of_seeds for run in machine_runs(scores)]


def _by_length(runs: Sequence[MachineRun]) -> tuple[dict[int, float], dict[int, float]]:
    """Steps survived and all steps: means over the runs."""
    survived: dict[int, list[int]] = defaultdict(list)
    steps: dict[int, list[int]] = defaultdict(list)
    for run in runs:
        survived[run.tape_length].append(run.survived)
        steps[run.tape_length].append(len(run.right))
    return _means(survived), _means(steps)


def _means(counts: Mapping[int, Sequence[int]]) -> dict[int, float]:
    return {length: float(np.mean(counts[length])) for length in sorted(counts)}
