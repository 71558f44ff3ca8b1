"""Intervals of a single model's metrics over the examples that it was scored on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ExampleIntervals:
    """Intervals, and what their reader must know.

    Args:
        by_metric: None for metrics without a contribution per example, and for all of fewer than two examples.
        notes: Where an interval is too narrow, and why: a sentence each. Who shows the intervals shows them too.
    """

    by_metric: dict[str, tuple[float, float] | None]
    notes: tuple[str, ...]


def example_intervals(
    metrics: Iterable[str], labels: Sequence[Any], predictions: Sequence[Any], *, where: str
) -> ExampleIntervals:
    """A 95 % interval for each metric that is a mean over examples, or can be written as one.

    It is about other examples of the same kind; what another seed would change is not in it.

    Args:
        metrics: Names, as in a record's scores.
        labels: The true label of each example; for written texts, its references.
        predictions: What was predicted, or written.
        where: What they are, for the notes: ``the test split``.
    """
    from peftlab.core.metric import may_be_negative, within_range
    from peftlab.statistics.intervals import mean_interval

    found: dict[str, tuple[float, float] | None] = dict.fromkeys(metrics)
    for metric in found:
        values = example_values(metric, labels, predictions) if len(labels) > 1 else None
        if values is not None:
            interval = mean_interval(values[None, :], changes=may_be_negative(metric))
            if math.isfinite(interval.high - interval.low):  # squares of very large errors are beyond any float
                found[metric] = within_range(metric, interval.low, interval.high)
    with_interval = [metric for metric, interval in found.items() if interval is not None]
    return ExampleIntervals(found, interval_notes(with_interval, labels, where))


def interval_notes(metrics: Iterable[str], labels: Sequence[Any], where: str) -> tuple[str, ...]:
    """Where intervals over these examples are too narrow, and why.

    Args:
        metrics: Names of those that have an interval.
        labels: The true label of each example.
        where: What they are: ``the test split``.
    """
    from peftlab.statistics.rare_classes import rare_class_note

    if not all(isinstance(label, str) for label in labels):
        return ()
    return tuple(filter(None, (rare_class_note(metric, Counter(labels), where) for metric in metrics)))


def example_values(metric: str, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64] | None:
    """What each example contributes to a metric; None for metrics without such values.

    Args:
        metric: Its name.
        labels: The true label of each example; for written texts, its references.
        predictions: What was predicted, or written.
    """
    from peftlab.core.metric import METRICS

    return METRICS[metric].per_example(labels, predictions) if metric in METRICS else None


def intervals_of_file(path: Path, split: str, metrics: Iterable[str]) -> ExampleIntervals:
    """The same from a run's ``predictions.parquet``."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["split", "label", "prediction"])
    rows = [row for row in table.to_pylist() if row["split"] == split]
    labels, predictions = [row["label"] for row in rows], [row["prediction"] for row in rows]
    return example_intervals(metrics, labels, predictions, where=f"the {split} split")
