"""Rank items of several sources together: which features an item has, and what each is worth.

The worth is learned on an inner split by time (the last fifth of each user's training events) as a conditional logit:
the probability that a user's next choice is this one of the candidates (McFadden, 1974; ListNet's top-one loss, Cao and
others, ICML 2007). Linear, so each item's score is a sum that can be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from peftlab.applications.recommend.collaborative import Collaborative
from peftlab.applications.recommend.history import Ints
from peftlab.applications.recommend.metrics import best_items
from peftlab.applications.recommend.search import Search
from peftlab.applications.recommend.vectors import history_rows, user_vectors

FEATURES = ("together", "recently", "alike", "factors", "popular", "few", "text", "last")
MEANINGS = {
    "together": "chosen by people who chose what you chose",
    "recently": "goes with what you chose lately",
    "alike": "has the same people as your items",
    "factors": "fits your taste",
    "popular": "many people chose it",
    "few": "many people chose it, and little is known of you",
    "text": "its text is like those of your items",
    "last": "its text is like your last choice",
}
"""What each feature is, for people."""
RIDGE = 1e-3
RECENT = 5.0
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Ranked:
    """Candidates of one user: ``items`` × FEATURES."""

    items: Ints
    features: Matrix


def rank_features(
    models: Collaborative,
    vectors: Matrix,
    search: Search,
    history: Ints,
    *,
    half_life: float,
    count: int,
    passed: Ints | None = None,
) -> Ranked:
    """The candidates of one user, with their features as standard scores among the candidates.

    Args:
        models: Fitted to choices.
        vectors: Items × size.
        search: Over the vectors.
        history: What the user chose, the oldest first; these items are no candidates.
        half_life: Of the user's events.
        count: So many candidates of each source.
        passed: What the user met and did not choose; these are no candidates either.
    """
    items = len(vectors)
    plain, lately = history_rows([history], items), history_rows([history], items, RECENT)
    popular = models.popular
    scores = {
        "together": models.by_ease(plain)[0],
        "recently": models.by_ease(lately)[0],
        "alike": models.by_neighbours(plain)[0],
        "factors": models.by_factors(plain)[0],
        "popular": popular,
    }
    wanted = user_vectors([history], vectors, half_life)[0]
    seen = np.zeros(items, bool)
    seen[history] = True
    if passed is not None:
        seen[passed] = True
    found = [] if not len(history) else [search.nearest(wanted, count + int(seen.sum()))]
    for each in scores.values():
        best = best_items(np.where(seen, -np.inf, each)[None], count)[0]
        found.append(best[best >= 0])
    chosen = np.unique(np.concatenate(found))
    chosen = chosen[~seen[chosen]]
    columns = {name: each[chosen] for name, each in scores.items()}
    columns["few"] = popular[chosen]
    columns["text"] = vectors[chosen] @ wanted
    columns["last"] = vectors[chosen] @ vectors[history[-1]] if len(history) else np.zeros(len(chosen), np.float32)
    table = np.stack([standardized(columns[name]) for name in FEATURES], axis=1)
    table[:, FEATURES.index("few")] *= 1 / np.sqrt(1 + len(history))
    return Ranked(chosen.astype(np.int64), table.astype(np.float32))


def standardized(values: Matrix) -> Matrix:
    """With mean 0 and spread 1; of equal values zeros."""
    spread = values.std() if len(values) else 0.0
    found: Matrix = (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)
    return found


def learn_weights(ranked: Sequence[Ranked], later: Sequence[Ints], *, only: Sequence[str] = FEATURES) -> Matrix:
    """What each feature is worth, from users' candidates and what they chose later.

    Args:
        ranked: Of each user, from the events before.
        later: What each user chose then; where no candidate is among it, the user says nothing.
        only: The features to use; the others are worth nothing.
    """
    used = np.isin(FEATURES, only)
    lists = []
    for each, right in zip(ranked, later, strict=True):
        hits = np.isin(each.items, right)
        if hits.any():
            lists.append((each.features[:, used].astype(np.float64), hits / hits.sum()))
    weights = np.zeros(len(FEATURES), np.float32)
    if not lists:
        weights[FEATURES.index("popular")] = 1
        return weights

    def loss(given: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = RIDGE * float(given @ given), 2 * RIDGE * given
        for table, share in lists:
            scores = table @ given
            scores -= scores.max()
            chance = np.exp(scores)
            total = chance.sum()
            value -= float(share @ scores - np.log(total)) / len(lists)
            slope -= table.T @ (share - chance / total) / len(lists)
        return value, slope

    found = scipy.optimize.minimize(loss, np.zeros(int(used.sum())), jac=True, method="L-BFGS-B")
    weights[used] = found.x
    return weights


def order(ranked: Ranked, weights: Matrix) -> tuple[Ints, Matrix]:
    """The candidates, the best first, and their scores."""
    scores = ranked.features @ weights
    best = np.lexsort((ranked.items, -scores))
    return ranked.items[best], scores[best]
