"""The metrics of preference tuning."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.metric_scorer import MetricScorer
from peftlab.core.task import Prediction


class PreferenceScorer:
    """Metrics of rewards, and mean log-ratios to the reference where there is one.

    Args:
        has_reference: Whether the predictions' scores are log-ratios.
    """

    def __init__(self, *, has_reference: bool) -> None:
        self._rewards = MetricScorer(("reward_accuracy", "reward_margin"))
        self._has_reference = has_reference
        self._ratios: dict[str, list[float]] = {"preferred_log_ratio": [], "dispreferred_log_ratio": []}

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in pairs, or responses."""
        self._rewards.add(predictions)
        preferred, other = self._ratios.values()
        for item in predictions:
            first, second = (preferred, other) if item.label else (other, preferred)
            first.append(item.scores[0])
            second.extend(item.scores[1:])

    def compute(self) -> dict[str, float]:
        """All metrics that are defined."""
        ratios = self._ratios if self._has_reference else {}
        return {**self._rewards.compute(), **{name: sum(own) / len(own) for name, own in ratios.items() if own}}
