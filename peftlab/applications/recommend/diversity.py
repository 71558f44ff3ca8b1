"""Lists that do not say the same ten times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.history import Ints

Matrix = NDArray[np.float32]


def diverse_order(scores: Matrix, vectors: Matrix, count: int, diversity: float) -> Ints:
    """Places of a list by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Args:
        scores: Of the items, the best first.
        vectors: Of the items, of the length 1.
        count: How many to choose.
        diversity: What the greatest cosine with a chosen item takes away; scores are brought to 0 … 1, and weigh the
            rest.
    """
    count = min(count, len(scores))
    if not diversity or count < 2:
        return np.arange(count)
    spread = float(scores.max() - scores.min())
    worth = (scores - scores.min()) / spread if spread > 0 else np.zeros_like(scores)
    nearest = np.zeros(len(scores), np.float32)
    free = np.ones(len(scores), bool)
    chosen: list[int] = []
    while len(chosen) < count:
        gain = np.where(free, (1 - diversity) * worth - diversity * nearest, -np.inf)
        best = int(np.argmax(gain))
        chosen.append(best)
        free[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return np.array(chosen, dtype=np.int64)


def similarity_within(vectors: Matrix) -> float:
    """The mean cosine of two items of a list; 0 for a list of one."""
    count = len(vectors)
    if count < 2:
        return 0.0
    total = np.asarray(vectors, np.float64).sum(axis=0)
    return float((total @ total - (vectors.astype(np.float64) ** 2).sum()) / (count * (count - 1)))
