"""Metrics of retrieval: of each query it is known at which rank its own document came.

As label stands the rank that it should have, 1, and as prediction the one that it has. Documents that are as near as
its own count as nearer: a model that gives every text the same vector has found nothing. With one right document a
query, nDCG has the ideal 1 (Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from peftlab.core.metric import METRICS, Metric, Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _OfRank(Metric):
    """A value of the rank, between 0 and 1."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[Unit] = "share"
    depth: ClassVar[int] = 10
    """Ranks beyond it count nothing."""

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
        """One value a query."""
        ranks = np.asarray(predictions, dtype=np.float64)
        return np.where(ranks <= cls.depth, cls._value(ranks), 0.0)

    @classmethod
    def _value(cls, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ones_like(ranks)


@METRICS.register("recall_at_1")
class RecallAt1(_OfRank):
    """Share of the queries whose own document is the nearest."""

    depth: ClassVar[int] = 1


@METRICS.register("recall_at_5")
class RecallAt5(_OfRank):
    """Share of the queries whose own document is among the five nearest."""

    depth: ClassVar[int] = 5


@METRICS.register("recall_at_10")
class RecallAt10(_OfRank):
    """Share of the queries whose own document is among the ten nearest."""


@METRICS.register("mrr_at_10")
class MrrAt10(_OfRank):
    """Mean of 1 ÷ the rank of a query's own document, 0 beyond the tenth."""

    @classmethod
    def _value(cls, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / ranks


@METRICS.register("ndcg_at_10")
class NdcgAt10(_OfRank):
    """Normalised discounted cumulative gain of the ten nearest documents: 1 ÷ log₂(1 + rank) of the query's own."""

    @classmethod
    def _value(cls, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 / np.log2(1 + ranks))
