"""Metrics of classes: one for each example, or any number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from peftlab.core.metric import METRICS, Metric, Unit
from peftlab.statistics import pseudo_values
from peftlab.statistics.crossed import Floats


class _Share(Metric):
    """A share, higher is better."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[Unit] = "share"


@METRICS.register("accuracy")
class Accuracy(_Share):
    """Share of examples (words, for token tasks) whose prediction is right; for several labels, all right."""

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
        """1 where the prediction is right, 0 elsewhere; None for tags of words."""
        return pseudo_values.accuracy(labels, predictions)


@METRICS.register("macro_f1")
class MacroF1(_Share):
    """F1 of each class, averaged with equal weight."""

    fewest_of_class: ClassVar[int] = 10
    """By ``benchmarks/statistics/rare_classes.md``."""

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
        """Pseudo-values; None for several labels per example."""
        return pseudo_values.of_confusion(pseudo_values.macro_f1, labels, predictions)


@METRICS.register("weighted_f1")
class WeightedF1(_Share):
    """F1 of each class, averaged by how often the class occurs."""

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
        """Pseudo-values; None for several labels per example."""
        return pseudo_values.of_confusion(pseudo_values.weighted_f1, labels, predictions)


@METRICS.register("micro_f1")
class MicroF1(_Share):
    """F1 over all decisions of a multi-label task together."""


@METRICS.register("matthews")
class Matthews(Metric):
    """Matthews correlation of labels and predictions."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    unit: ClassVar[Unit] = "correlation"

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
        """Pseudo-values; None for several labels per example."""
        return pseudo_values.of_confusion(pseudo_values.matthews, labels, predictions)


@METRICS.register("rank_error")
class RankError(Metric):
    """Mean distance between the right class and the answer, in places of the classes' order."""

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)


@METRICS.register("quadratic_kappa")
class QuadraticKappa(Metric):
    """Agreement of ordered classes beyond chance (Cohen 1968), where a miss counts by its distance squared."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    unit: ClassVar[Unit] = "correlation"


@METRICS.register("auroc")
class Auroc(_Share):
    """Area under the ROC curve; with more classes, one against the rest, averaged with equal weight."""


@METRICS.register("f1")
class EntityF1(_Share):
    """F1 over entities: type and both borders right (seqeval's definition)."""


@METRICS.register("precision")
class EntityPrecision(_Share):
    """Share of the predicted entities that are right."""


@METRICS.register("recall")
class EntityRecall(_Share):
    """Share of the true entities that were found."""
