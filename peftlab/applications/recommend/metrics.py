"""How good lists of recommendations are: recall, nDCG, coverage and novelty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.history import Ints

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What lists are worth. Users who chose nothing later are not among them.

    Args:
        recall: Of each user: the share of what was chosen later that the list holds.
        ndcg: Of each user: the same with less weight for lower places, 1 for the best possible list (binary
            relevance, Järvelin and Kekäläinen, ACM TOIS 20, 2002).
        coverage: The share of the catalogue that at least one list holds.
        novelty: Mean surprise of what is shown, in bits: −log2 of the share of users who had chosen the item.
    """

    recall: Floats
    ndcg: Floats
    coverage: float
    novelty: float


def score_lists(lists: Ints, later: Sequence[Ints], popularity: Floats, users: int, catalogue: int) -> Scores:
    """Judge a list of each user.

    Args:
        lists: Users × k, the best first; −1: the list is shorter.
        later: What each user chose later.
        popularity: How many users had chosen each item before.
        users: How many users there were.
        catalogue: How many items could have been shown.
    """
    size = lists.shape[1]
    discount = 1 / np.log2(np.arange(2, size + 2))
    recall, ndcg, shown = [], [], []
    for row, right in zip(lists, later, strict=True):
        if not len(right):
            continue
        hits = np.isin(row, right)
        recall.append(hits.sum() / len(right))
        ndcg.append((hits * discount).sum() / discount[: min(size, len(right))].sum())
        shown.append(row[row >= 0])
    every = np.concatenate(shown) if shown else np.empty(0, dtype=np.int64)
    # An item that nobody had chosen is as surprising as one that half a user chose.
    surprise = -np.log2(np.maximum(popularity[every], 0.5) / users)
    novelty = float(surprise.mean()) if len(every) else 0.0
    return Scores(np.array(recall), np.array(ndcg), len(np.unique(every)) / max(catalogue, 1), novelty)


def best_items(scores: NDArray[np.float32], size: int) -> Ints:
    """The places of the highest scores of each row, the best first; of equal ones the first. −∞ is left out: −1."""
    size = min(size, scores.shape[1])
    if not size:
        return np.empty((len(scores), 0), dtype=np.int64)
    # A partition alone takes any of the scores that are equal to the last one, by how the processor sorts.
    last = np.partition(scores, -size, axis=1)[:, -size, None]
    above, equal = scores > last, scores == last
    room = size - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= room))
    top = np.nonzero(chosen)[1].reshape(len(scores), size)
    values = np.take_along_axis(scores, top, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    top, values = np.take_along_axis(top, order, axis=1), np.take_along_axis(values, order, axis=1)
    return np.where(np.isneginf(values), -1, top).astype(np.int64)
