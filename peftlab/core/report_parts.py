"""What a task adds to reports: plain values that the report draws, so that a task need not know how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Units:
    """What was compared instead of single examples, such as whole runs of a machine that was asked step by step.

    Args:
        index: A number for each; runs are paired by it.
        labels: For each a number that is the same in every run of the same data.
        predictions: For each a number that tells what the model made of it.
        per_unit: A metric's value of each, whose mean is the metric; None for a metric that has none.
    """

    index: Sequence[int]
    labels: Sequence[float]
    predictions: Sequence[float]
    per_unit: Callable[[str], NDArray[np.float64] | None]


@dataclass(frozen=True)
class ComparedMethod:
    """A method of a comparison, as a task's own figures see it.

    Args:
        number: Its place in the comparison, from 0; it has the same colour in every figure.
        name: As the report calls it.
        settings: Of its first run, by dotted key: ``task.max_length``.
        scores: For each of its runs (its seeds) the stored ``scores`` of a split's predictions; none where it has none.
    """

    number: int
    name: str
    settings: Mapping[str, Any]
    scores: Callable[[str], Sequence[Sequence[Sequence[float]]]]


@dataclass(frozen=True)
class Line:
    """A line of a figure.

    Args:
        number: Of the method, which chooses the colour; None for a line of no method.
        name: As the legend calls it.
        points: Pairs of x and y.
    """

    number: int | None
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class ReportPart:
    """A figure of lines with its figures as a table, under a heading.

    Args:
        heading: Over it.
        title: Of the figure.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
        lines: What is drawn.
        note: What one must know to read it.
        table_title: Of the table.
        columns: Heads of its columns; the first names the rows.
        rows: Its cells.
    """

    heading: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    note: str
    table_title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
