"""Metrics of retrieval. Of each query it is known at which rank its own document came, or how its documents are scored.

With a rank, as label stands the one that it should have, 1, and as prediction the one that it has. With documents, as
label stand their relevances (0: does not answer), and as prediction their scores. Documents that are as near as the
right one count as nearer: a model that gives every text the same vector has found nothing. nDCG: Järvelin and
Kekäläinen 2002, https://doi.org/10.1145/582415.582418; with one right document a query, the ideal is 1.
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
        if len(predictions) and np.ndim(predictions[0]):
            pairs = zip(labels, predictions, strict=True)
            return np.array([cls._of_documents(np.asarray(right), np.asarray(scores)) for right, scores in pairs])
        ranks = np.asarray(predictions, dtype=np.float64)
        return np.where(ranks <= cls.depth, cls._value(ranks), 0.0)

    @classmethod
    def _value(cls, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ones_like(ranks)

    @classmethod
    def _of_documents(cls, relevance: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
        """The value of one query: of the rank of the first document that answers; 0 where none does."""
        is_right = relevance > 0
        if not is_right.any():
            return 0.0
        rank = 1.0 + np.count_nonzero(scores[~is_right] >= scores[is_right].max())
        return float(cls._value(np.array([rank]))[0]) if rank <= cls.depth else 0.0


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
    """Normalised discounted cumulative gain of the ten nearest documents: 1 ÷ log₂(1 + rank) of the query's own.

    Of relevances it is as scikit-learn's ``ndcg_score``: documents with equal scores share their discounts.
    """

    @classmethod
    def _value(cls, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 / np.log2(1 + ranks))

    @classmethod
    def _of_documents(cls, relevance: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
        discounts = 1 / np.log2(2 + np.arange(len(scores)))
        discounts[cls.depth :] = 0
        ideal = float(np.sort(relevance)[::-1] @ discounts)
        _, group, counts = np.unique(-scores, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        shares = np.array([discounts[end - count : end].mean() for end, count in zip(ends, counts, strict=True)])
        return float(relevance @ shares[group]) / ideal if ideal > 0 else 0.0
