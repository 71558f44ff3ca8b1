"""The scorer of a task that writes none: its metrics by what ``METRICS`` knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peftlab.core.given_values import number_of
from peftlab.core.metric import METRICS

if TYPE_CHECKING:
    from peftlab.core.task_answers import Prediction


class MetricScorer:
    """Computes registered metrics from labels and predictions, which are kept.

    Args:
        metrics: Their names.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self._metrics = {name: METRICS[name] for name in metrics}
        self._labels: list[Any] = []
        self._predictions: list[Any] = []

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in the predictions of a batch."""
        self._labels.extend(item.label for item in predictions)
        self._predictions.extend(item.prediction for item in predictions)

    def compute(self) -> dict[str, float]:
        """All metrics; one that is not defined on these examples is left out."""
        if not self._labels:
            return {}
        found = {name: metric.score(self._labels, self._predictions) for name, metric in self._metrics.items()}
        return {
            name: number_of(value, what=f"the metric `{name}`") for name, value in found.items() if value is not None
        }
