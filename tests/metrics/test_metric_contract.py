"""Every metric that is computed from labels and predictions keeps the contract that plugins keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftlab.core.metric import METRICS, Metric
from peftlab.testing import MetricContract
from peftlab.testing.metric_contract import Scored
from peftlab.testing.plugin_contract import Section

CLASSES = (MetricContract.labels, MetricContract.predictions, True)
NUMBERS = ([0.5, 2.0, -1.0, 3.0, 0.25, 4.0], [0.5, 3.0, -1.5, 3.0, 0.0, 4.0], True)
REWARDS = ([True, False, True] * 4, [0.5, -1.0, -2.0] * 4, False)
RANKS = ([1] * 6, [1, 2, 11, 1, 5, 30], True)
TEXTS = ([["the cat sat", "a cat"], ["the dog ran"], ["12"], ["no"]], ["the cat sat", "a dog ran", "12", "yes"], False)
CHINESE = ([["电影很好看"], ["两遍"], ["北京"]], ["电影很好", "两遍", "上海"], False)
OTHERS = {"mean": NUMBERS, "reward": REWARDS, "recall": RANKS, "mrr": RANKS, "ndcg": RANKS, "cmrc": CHINESE}
"""By the first word of the name."""


def tried_on(name: str) -> tuple[Sequence[Any], Sequence[Any], bool]:
    """Labels and predictions, and whether one could be the other."""
    if name.startswith(("rouge", "squad", "exact")):
        return TEXTS
    return OTHERS.get(name.partition("_")[0], CLASSES)


class TestMetrics(MetricContract):
    def sections(self) -> Sequence[Section]:
        elsewhere = ("image_to_text", "text_to_image", "two_way", "distinct")  # computed by their tasks
        computed = [name for name, metric in METRICS.items() if "per_example" in _written_by(metric)]
        return [{"type": name} for name in computed if not name.startswith(elsewhere)]

    def scored(self) -> Sequence[Scored]:
        return [Scored(section, *tried_on(section["type"])) for section in self.sections()]


def _written_by(metric: type[Metric]) -> set[str]:
    return {name for cls in metric.__mro__[: metric.__mro__.index(Metric)] for name in vars(cls)}
