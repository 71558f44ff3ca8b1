"""A task's scorer, and a metric from elsewhere beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftlab.core.given_values import number_of
from peftlab.core.metric import Metric
from peftlab.core.task import Prediction, Scorer


class ScorerWithMetric:
    """All that a task's scorer computes, and one more metric, for which labels and predictions are kept.

    Args:
        scorer: The task's.
        metric: Its ``score`` takes what was kept.
    """

    def __init__(self, scorer: Scorer, metric: type[Metric]) -> None:
        self._scorer, self._metric = scorer, metric
        self._labels: list[Any] = []
        self._predictions: list[Any] = []

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in the predictions of a batch."""
        self._scorer.add(predictions)
        self._labels.extend(item.label for item in predictions)
        self._predictions.extend(item.prediction for item in predictions)

    def compute(self) -> dict[str, float]:
        """All metrics; one that is not defined on these examples is left out."""
        scores = self._scorer.compute()
        value = self._metric.score(self._labels, self._predictions)
        name = self._metric.registered_name
        return scores if value is None else {**scores, name: number_of(value, what=f"the metric `{name}`")}
