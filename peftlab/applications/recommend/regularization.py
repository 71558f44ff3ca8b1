"""How far EASE trusts rare items: chosen on the last events that it is given, never on those it is judged by."""

from __future__ import annotations

import numpy as np

from peftlab.applications.recommend.collaborative import fit_ease, most_popular
from peftlab.applications.recommend.history import History
from peftlab.applications.recommend.metrics import best_items, score_lists

GRID = (30.0, 100.0, 300.0, 1000.0, 3000.0)
LENGTH = 10
"""Of the lists by whose nDCG it is chosen."""
USERS = 2000
"""The first so many users are enough to choose by."""


def choose_regularization(history: History, exact_items: int) -> float:
    """The value of the grid whose lists foretell each user's last events best.

    Args:
        history: Events to fit to; each user's last fifth is what is to be foretold.
        exact_items: EASE is fitted to so many of the most popular items.

    Returns:
        The middle of the grid where no user has enough events to tell.
    """
    early, late = history.cut()
    items = most_popular(early, exact_items)
    judged, later = early.matrix[:USERS], late.each()[:USERS]
    chosen, met = judged[:, items], early.met[:USERS][:, items]
    if not any(map(len, later)) or not len(items):
        return GRID[len(GRID) // 2]
    worth = []
    for value in GRID:
        scores = np.asarray(chosen @ fit_ease(early.matrix[:, items], value), np.float32)
        scores[met.nonzero()] = -np.inf
        places = best_items(scores, LENGTH)
        lists = np.where(places < 0, -1, items[places])
        found = score_lists(lists, later, early.popularity, len(early.users), history.items)
        worth.append(float(found.ndcg.mean()))
    return GRID[int(np.argmax(worth))]
