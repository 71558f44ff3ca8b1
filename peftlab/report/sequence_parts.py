"""What a report shows of tasks in a row: a sentence, tables, the drawn matrices, and the curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.core.amounts import plural
from peftlab.report import wording
from peftlab.report.estimates import Estimate, estimate, shown_points, shown_score
from peftlab.report.figure_set import Figure, means_figure
from peftlab.report.sequences import LearnedSequence, LearnedTasks
from peftlab.report.table import Cell, Table


@dataclass(frozen=True)
class Square:
    """An entry of a drawn matrix.

    Args:
        text: The score.
        share: How strong its colour is, 0 to 100; None: nothing was measured.
        kind: ``learned``, ``before`` (the task comes next) or ``kept``.
        tip: The score of each seed.
    """

    text: str
    share: float | None = None
    kind: str = "kept"
    tip: str = ""


@dataclass(frozen=True)
class DrawnMatrix:
    """A method's matrix.

    Args:
        name: Of the method.
        number: Its place among the methods, which chooses its colour.
        summary: What it came to.
        rows: Of each task the squares after it was learned.
    """

    name: str
    number: int
    summary: str
    rows: Sequence[tuple[str, Sequence[Square]]]


@dataclass(frozen=True)
class SequencePart:
    """A sequence as the page shows it."""

    learned: LearnedTasks
    headline: str
    figures: Table
    matrices: Sequence[DrawnMatrix]
    curves: Figure


def sequence_part(found: LearnedTasks) -> SequencePart:
    """Everything that the page shows of a sequence."""
    return SequencePart(found, sequence_headline(found), figures_table(found), draw_matrices(found), _curves(found))


def sequence_headline(found: LearnedTasks) -> str:
    """What the sequence came to, in a sentence."""
    best = found.methods[0]
    return (
        f"After {plural(len(found.tasks), 'task')} {best.name} has the best mean {found.metric} on all, "
        f"{shown_score(best.figures['mean'], found.metric)}. Its forgetting in {wording.unit_of_points(found.metric)}: "
        f"{shown_points(best.figures['forgetting'], found.metric)}."
    )


def figures_table(found: LearnedTasks) -> Table:
    """Of each method the figures of the field, best mean first."""
    metric = found.metric
    columns = ["method", "seeds", f"mean {metric} at the end", "forgetting", "backward transfer", "forward transfer"]
    columns.append("just learned")
    with_joint = any("of_joint" in method.figures for method in found.methods)
    with_router = any(method.routed_right for method in found.methods)
    rows: list[list[Cell]] = []
    for method in found.methods:
        own = method.figures
        row: list[Cell] = [method.name, str(len(method.seeds)), shown_score(own["mean"], metric)]
        row += [shown_points(own.get(name), metric) for name in ("forgetting", "backward", "forward")]
        row.append(shown_score(own.get("learned"), metric))
        row += [_share(own.get("of_joint"))] * with_joint + [_share(method.routed_right)] * with_router
        rows.append(row)
    columns += ["share of training on all"] * with_joint + ["routed to its own task"] * with_router
    note = (
        f"In {wording.unit_of_points(metric)}, means over the seeds with 95 % intervals for further seeds on the same "
        "rows. Forgetting: the best score on an earlier task less the one at the end, mean over the earlier tasks "
        "(Chaudhry et al., 2018). Backward transfer: the score at the end less the one just after learning. "
        "Forward transfer: the score before the task is learned less that of the untrained model (Lopez-Paz and "
        "Ranzato, 2017). Just learned: the mean score on each task right after it."
    )
    if not any("forward" in method.figures for method in found.methods):
        note += " Forward transfer is known where a method begins each task with the base: it measures that model."
    return Table("What each method has kept", columns, rows, note)


def score_matrix(found: LearnedTasks, method: LearnedSequence) -> Table:
    """A method's matrix as plain figures."""
    columns = ["after", *(f"on {task}" for task in found.tasks)]
    rows: list[list[Cell]] = [
        [task, *(wording.score(float(value), found.metric, unit=False) for value in row)]
        for task, row in zip(found.tasks, method.matrix, strict=True)
    ]
    return Table(f"{found.metric} of {method.name} on each task, after each task", columns, rows)


def draw_matrices(found: LearnedTasks) -> list[DrawnMatrix]:
    """The matrices of all methods on one scale: faintest is the worst score of all, strongest the best."""
    every = np.concatenate([method.matrix.ravel() for method in found.methods])
    worst, best = float(np.nanmin(every)), float(np.nanmax(every))
    if wording.lower_is_better(found.metric):
        worst, best = best, worst
    return [
        DrawnMatrix(
            method.name,
            number,
            f"{shown_score(method.figures['mean'], found.metric)} at the end, forgetting "
            f"{shown_points(method.figures['forgetting'], found.metric)}",
            [
                (task, [_square(found, method, at, on, worst, best) for on in range(len(found.tasks))])
                for at, task in enumerate(found.tasks)
            ],
        )
        for number, method in enumerate(found.methods)
    ]


def _square(found: LearnedTasks, method: LearnedSequence, at: int, on: int, worst: float, best: float) -> Square:
    value = float(method.matrix[at, on])
    if not np.isfinite(value):
        return Square("")
    seeds = method.scores[:, at, on]
    when = "before it is learned" if on > at else "just learned" if on == at else f"after {found.tasks[at]}"
    told = [
        f"seed {seed}: {wording.score(float(score), found.metric)}"
        for seed, score in zip(method.seeds, seeds, strict=True)
    ]
    tip = f"{found.tasks[on]}, {when}: {shown_score(estimate([float(score) for score in seeds]), found.metric)}; "
    share = 100.0 if best == worst else 100 * (value - worst) / (best - worst)
    kind = "before" if on > at else "learned" if on == at else "kept"
    return Square(wording.score(value, found.metric, unit=False), round(share, 1), kind, tip + ", ".join(told))


def _curves(found: LearnedTasks) -> Figure:
    methods = [(method.name, [(at + 1, score) for at, score in enumerate(method.so_far)]) for method in found.methods]
    upwards = f"mean {found.metric} on the tasks so far"
    return means_figure("What is left of the tasks so far", "tasks learned", upwards, found.metric, methods)


def _share(found: Estimate | None) -> str:
    return shown_score(found, "accuracy")
