"""Items that nobody has chosen yet: ranked by what they say, and by what people did with items that say such things.

Three views of a new item, each a standard score over the new items: how near its text is to the user's last items; the
popularity that its traits let expect (its text's vector and words); and what EASE would say of it. EASE knows no new
item, but a wish is learned from what it says of the others: the vector whose products with their traits come nearest to
their scores (ridge regression, as in Gantner and others, ICDM 2010). What each view is worth is chosen on other items,
that are taken for new ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.collaborative import fit_ease, most_popular
from peftlab.applications.recommend.history import History, Ints
from peftlab.applications.recommend.metrics import best_items, score_lists
from peftlab.applications.recommend.traits import Traits
from peftlab.applications.recommend.vectors import history_rows, user_vectors

RIDGE = 3.0
HALF_LIFE = 5.0
"""Of a user's events, for new items: what was chosen last says most. Found on MovieLens' inner split, as the ridge."""
REGULARIZATION = 300.0
"""Of EASE, where the recipe names none."""
FOLDS = 3
"""So many fifths of the items are taken for new ones in turn."""
SHARES = tuple(
    shares for shares in itertools.product((0.0, 0.5, 1.0), (0.0, 0.25, 0.5, 1.0), (0.0, 0.5, 1.0)) if any(shares[::2])
)
"""What is tried as the worth of the text, of the expected popularity, and of the wish."""
TEXT_ALONE = (1.0, 0.0, 0.0)
Matrix = NDArray[np.float32]
Shares = tuple[float, ...]


@dataclass(frozen=True)
class Expected:
    """What traits let expect of items.

    Args:
        popularity: Its logarithm, of each item.
        wishes: Traits × items that EASE knows: makes a wish of EASE's scores.
    """

    popularity: Matrix
    wishes: Matrix


def expect(traits: Traits, popularity: NDArray[np.float64], exact: Ints) -> Expected:
    """Learn from items that were chosen what traits let expect of any item.

    Args:
        traits: Of all items.
        popularity: How many users chose each item; items that nobody chose teach nothing.
        exact: The items that EASE knows.
    """
    known = np.flatnonzero(popularity > 0)
    wishes = _ridge(traits.rows(exact)) if len(exact) else np.zeros((traits.size, 0), np.float32)
    if not len(known):  # of a few items all may be taken for new ones
        return Expected(np.zeros(len(popularity), np.float32), wishes)
    target = np.log1p(popularity[known])
    rows = traits.rows(known)
    worth = _ridge(rows, (target - target.mean())[:, None])
    expected = traits.products(worth, np.arange(len(popularity)))[:, 0]
    expected += np.float32(target.mean() - rows.mean(axis=0, dtype=np.float64) @ worth[:, 0])
    return Expected(expected, wishes)


def _ridge(inputs: Matrix, targets: NDArray[np.float64] | None = None) -> Matrix:
    """The coefficients of targets (columns); without targets the matrix that makes coefficients of any."""
    own = inputs - inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
    gram = (own.T @ own).astype(np.float64) + RIDGE * np.eye(own.shape[1])
    right = own.T if targets is None else own.T @ targets.astype(np.float32)
    return np.linalg.solve(gram, right.astype(np.float64)).astype(np.float32)


def cold_scores(text: Matrix, popularity: Matrix, wish: Matrix, shares: Shares) -> Matrix:
    """Users × items.

    Args:
        text: Users × items: how near the texts are to what each user chose last.
        popularity: That is expected of the items.
        wish: Users × items: what EASE's scores let expect that each user wants.
        shares: Worth of the text, the popularity and the wish.
    """
    near, popular, wanted = shares
    found = near * _standard(text) + popular * _standard(popularity[None]) + wanted * _standard(wish)
    scores: Matrix = found.astype(np.float32)
    return scores


@dataclass(frozen=True)
class ColdCase:
    """Users and items of a split in which some items are taken for new ones.

    Args:
        places: Of the new items.
        text: Users × new items; see :func:`cold_scores`.
        popularity: Of the new items.
        wish: Users × new items.
    """

    places: Ints
    text: Matrix
    popularity: Matrix
    wish: Matrix

    def lists(self, shares: Shares, size: int = 10) -> Ints:
        """For each user the best of the new items."""
        best = best_items(cold_scores(self.text, self.popularity, self.wish, shares), size)
        return np.where(best >= 0, self.places[best], -1)


def cold_case(
    history: History,
    traits: Traits,
    held: NDArray[np.bool_],
    *,
    unseen: NDArray[np.bool_],
    exact_items: int,
    regularization: float | None,
) -> ColdCase:
    """Take items for new ones.

    Args:
        history: Training events.
        traits: Of all items.
        held: The items that are taken for new ones.
        unseen: All items whose events are not looked at; the held ones are among them.
        exact_items: EASE is fitted to so many of the most popular items.
        regularization: Of EASE.
    """
    warm = history.keep(~unseen[history.item])
    exact = most_popular(warm, exact_items)
    expected = expect(traits, warm.popularity, exact)
    rows: Any = history_rows(warm.each(), history.items, HALF_LIFE)[:, exact]
    scores = np.asarray(rows @ fit_ease(warm.matrix[:, exact], regularization or REGULARIZATION), np.float32)
    places = np.flatnonzero(held)
    return ColdCase(
        places,
        user_vectors(warm.each(), traits.vectors, HALF_LIFE) @ traits.vectors[places].T,
        expected.popularity[places],
        traits.products(expected.wishes @ scores.T, places).T,
    )


def choose_shares(
    history: History,
    traits: Traits,
    hidden: NDArray[np.bool_],
    *,
    exact_items: int,
    regularization: float | None,
    seed: int,
) -> tuple[Shares, float]:
    """What finds most of other fifths of the items, taken for new ones, among users' later training events.

    Args:
        history: Training events; those of hidden items are not looked at.
        traits: Of all items.
        hidden: Items that are judged at the end.
        exact_items: EASE is fitted to so many of the most popular items.
        regularization: Of EASE.
        seed: Draws the fifths.

    Returns:
        The worth of text, popularity and wish, and the mean recall over the fifths.
    """
    early, late = history.cut()
    known = np.random.default_rng([seed, 11]).permutation(np.flatnonzero((history.popularity > 0) & ~hidden))
    worth = np.zeros(len(SHARES))
    for fold in range(FOLDS):
        held = np.zeros(history.items, bool)
        held[known[fold::5]] = True
        later = [each[held[each]] for each in late.each()]
        if not any(map(len, later)):
            continue
        case = cold_case(
            early, traits, held, unseen=held | hidden, exact_items=exact_items, regularization=regularization
        )
        for at, shares in enumerate(SHARES):
            lists = case.lists(shares)
            found = score_lists(lists, later, history.popularity, len(history.users), int(held.sum()))
            worth[at] += found.recall.mean()
    best = int(np.argmax(worth))
    return (SHARES[best], float(worth[best]) / FOLDS) if worth.any() else (TEXT_ALONE, 0.0)


def new_items(popularity: NDArray[np.float64], seen: Sequence[int]) -> Ints:
    """Items that nobody has chosen."""
    return np.setdiff1d(np.flatnonzero(popularity == 0), np.asarray(seen, dtype=np.int64))


def _standard(values: Matrix) -> Matrix:
    spread = values.std(axis=1, keepdims=True)
    found: Matrix = (values - values.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9)
    return found
