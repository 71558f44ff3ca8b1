"""Intervals of a single model's metrics over the examples that it was scored on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def example_intervals(
    metrics: Iterable[str], labels: Sequence[Any], predictions: Sequence[Any]
) -> dict[str, tuple[float, float] | None]:
    """A 95 % interval for each metric that is a mean over examples, or can be written as one.

    It is about other examples of the same kind; what another seed would change is not in it.

    Args:
        metrics: Names, as in a record's scores.
        labels: The true label of each example; for written texts, its references.
        predictions: What was predicted, or written.

    Returns:
        None for metrics without a contribution per example, and for all where there are fewer than two examples.
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
    return found


def example_values(metric: str, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64] | None:
    """What each example contributes to a metric; None for metrics without such values.

    Args:
        metric: Its name.
        labels: The true label of each example; for written texts, its references.
        predictions: What was predicted, or written.
    """
    from peftlab.core.metric import METRICS

    return METRICS[metric].per_example(labels, predictions) if metric in METRICS else None


def intervals_of_file(path: Path, split: str, metrics: Iterable[str]) -> dict[str, tuple[float, float] | None]:
    """The same from a run's ``predictions.parquet``."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["split", "label", "prediction"])
    rows = [row for row in table.to_pylist() if row["split"] == split]
    return example_intervals(metrics, [row["label"] for row in rows], [row["prediction"] for row in rows])
