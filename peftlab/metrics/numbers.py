"""Metrics of a number for each example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from peftlab.core.metric import METRICS, Metric, Unit
from peftlab.statistics import pseudo_values
from peftlab.statistics.crossed import Floats


class _Correlation(Metric):
    """A correlation, higher is better."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    unit: ClassVar[Unit] = "correlation"


@METRICS.register("pearson")
class Pearson(_Correlation):
    """Linear correlation of targets and predictions."""


@METRICS.register("spearman")
class Spearman(_Correlation):
    """Rank correlation of targets and predictions."""


class _Error(Metric):
    """An error in the targets' unit, lower is better."""

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    unit: ClassVar[Unit] = "target"


@METRICS.register("mean_squared_error")
class MeanSquaredError(_Error):
    """Mean of the squared errors."""

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
        """The square of each error."""
        errors = pseudo_values.errors(labels, predictions)
        return errors * errors


@METRICS.register("mean_absolute_error")
class MeanAbsoluteError(_Error):
    """Mean of the absolute errors."""

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
        """The size of each error."""
        return abs(pseudo_values.errors(labels, predictions))
