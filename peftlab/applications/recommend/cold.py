"""Items that nobody has chosen yet: ranked by what they say, and by what people did with items that say such things.

Three views of a new item, each a standard score over the new items: how near its text is to the user's items; the
popularity that its text lets expect; and the factors that its text lets expect, times the user's (a linear map from
texts to factors of behaviour, as in Gantner and others, ICDM 2010). What each is worth is chosen on other items, that
are taken for new ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.collaborative import fit_als, user_factors
from peftlab.applications.recommend.history import History, Ints
from peftlab.applications.recommend.metrics import best_items, score_lists
from peftlab.applications.recommend.vectors import history_rows, user_vectors

RIDGE = 10.0
SHARES = tuple(itertools.product((1.0, 0.5), (0.0, 0.25, 0.5, 1.0), (0.0, 0.5, 1.0)))
"""What is tried as the worth of the text, of the expected popularity, and of the expected factors."""
TEXT_ALONE = (1.0, 0.0, 0.0)
Matrix = NDArray[np.float32]
Shares = tuple[float, ...]


@dataclass(frozen=True)
class Expected:
    """What texts let expect of items.

    Args:
        popularity: Its logarithm, of each item.
        factors: Items × size.
    """

    popularity: Matrix
    factors: Matrix


def expect(vectors: Matrix, popularity: NDArray[np.float64], factors: Matrix) -> Expected:
    """Learn from items that were chosen what texts let expect of any item, by ridge regression.

    Args:
        vectors: Items × size.
        popularity: How many users chose each item; items that nobody chose teach nothing.
        factors: Items × size, of ALS.
    """
    known = popularity > 0
    inputs = vectors[known].astype(np.float64)
    target = np.column_stack([np.log1p(popularity[known]), factors[known]])
    centre, mean = inputs.mean(axis=0), target.mean(axis=0)
    inputs -= centre
    weights = np.linalg.solve(inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1]), inputs.T @ (target - mean))
    found = ((vectors - centre) @ weights + mean).astype(np.float32)
    return Expected(found[:, 0], found[:, 1:])


def cold_scores(wanted: Matrix, taste: Matrix, vectors: Matrix, expected: Expected, shares: Shares) -> Matrix:
    """Users × items.

    Args:
        wanted: Users × size: mean vectors of what they chose.
        taste: Users × size: their factors.
        vectors: Of the items that are ranked.
        expected: Of the same items.
        shares: Worth of the text, the popularity and the factors.
    """
    text, popular, factors = shares
    found = text * _standard(wanted @ vectors.T) + popular * _standard(expected.popularity[None])
    scores: Matrix = (found + factors * _standard(taste @ expected.factors.T)).astype(np.float32)
    return scores


@dataclass(frozen=True)
class ColdCase:
    """Users and items of a split in which some items are taken for new ones.

    Args:
        places: Of the new items.
        wanted: Users × size.
        taste: Users × size.
        vectors: Of the new items.
        expected: Of the new items.
    """

    places: Ints
    wanted: Matrix
    taste: Matrix
    vectors: Matrix
    expected: Expected

    def lists(self, shares: Shares, size: int = 10) -> Ints:
        """For each user the best of the new items."""
        best = best_items(cold_scores(self.wanted, self.taste, self.vectors, self.expected, shares), size)
        return np.where(best >= 0, self.places[best], -1)


def cold_case(
    history: History, vectors: Matrix, held: NDArray[np.bool_], *, unseen: NDArray[np.bool_], half_life: float,
    factors: int, seed: int,
) -> ColdCase:  # fmt: skip
    """Take items for new ones.

    Args:
        history: Training events.
        vectors: Items × size.
        held: The items that are taken for new ones.
        unseen: All items whose events are not looked at; the held ones are among them.
        half_life: Of users' events.
        factors: Size of the factors.
        seed: Of the factors' start.
    """
    warm = history.keep(~unseen[history.item])
    of_items = fit_als(warm.matrix, factors, seed)
    expected = expect(vectors, warm.popularity, of_items)
    places, chosen = np.flatnonzero(held), warm.each()
    return ColdCase(
        places,
        user_vectors(chosen, vectors, half_life),
        user_factors(of_items, history_rows(chosen, history.items)),
        vectors[places],
        Expected(expected.popularity[places], expected.factors[places]),
    )


def choose_shares(
    history: History, vectors: Matrix, hidden: NDArray[np.bool_], *, half_life: float, factors: int, seed: int
) -> Shares:
    """What finds most of another fifth of the items, taken for new ones, among users' later training events.

    Args:
        history: Training events; those of hidden items are not looked at.
        vectors: Items × size.
        hidden: Items that are judged at the end.
        half_life: Of users' events.
        factors: Size of the factors.
        seed: Draws the fifth.
    """
    early, late = history.cut()
    known = np.flatnonzero((history.popularity > 0) & ~hidden)
    drawn = np.random.default_rng([seed, 11]).choice(known, size=max(1, len(known) // 5), replace=False)
    held = np.zeros(history.items, bool)
    held[drawn] = True
    case = cold_case(early, vectors, held, unseen=held | hidden, half_life=half_life, factors=factors, seed=seed)
    later = [each[held[each]] for each in late.each()]
    if not any(len(each) for each in later):
        return TEXT_ALONE
    users, count = len(history.users), int(held.sum())
    recalls = [
        score_lists(case.lists(shares), later, history.popularity, users, count).recall.mean() for shares in SHARES
    ]
    return SHARES[int(np.argmax(recalls))]


def new_items(popularity: NDArray[np.float64], seen: Sequence[int]) -> Ints:
    """Items that nobody has chosen."""
    return np.setdiff1d(np.flatnonzero(popularity == 0), np.asarray(seen, dtype=np.int64))


def _standard(values: Matrix) -> Matrix:
    spread = values.std(axis=1, keepdims=True)
    found: Matrix = (values - values.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9)
    return found
