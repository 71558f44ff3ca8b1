"""A built recommender at work: lists for users and for texts, and why each item is on them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.building import (
    GRAPH_NAME,
    MODELS_NAME,
    load_weights,
)
from peftlab.applications.recommend.cold import HALF_LIFE, cold_scores, expect, new_items
from peftlab.applications.recommend.collaborative import load_collaborative
from peftlab.applications.recommend.counterfactual import chances_of, draw_list
from peftlab.applications.recommend.diversity import diverse_order
from peftlab.applications.recommend.history import Ints, load_history
from peftlab.applications.recommend.ranking import FEATURES, MEANINGS, order, rank_features, standardized
from peftlab.applications.recommend.search import open_search
from peftlab.applications.recommend.towers import Towers, load_vectors
from peftlab.applications.recommend.traits import traits_of
from peftlab.applications.recommend.vectors import history_rows, user_vectors
from peftlab.core.application import Workplace

if TYPE_CHECKING:
    from peftlab.applications.recommend import Recommend

POOL = 50
"""So many of the best items can be drawn."""
REASONS = 3
NEW = "nobody had chosen it when this was built; its text is like those of your items"
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Reason:
    """Why an item is on a list.

    Args:
        feature: One of FEATURES, ``query`` or ``new``.
        meaning: In words.
        worth: What it adds to the score.
        because: The user's items that say most for it; places in the catalogue.
    """

    feature: str
    meaning: str
    worth: float
    because: Sequence[int] = ()


@dataclass(frozen=True)
class Suggestion:
    """An item of a list.

    Args:
        item: Its place in the catalogue.
        score: The higher, the better.
        chance: With which it was drawn for its place, given those above it; 1 where nothing is drawn.
        reasons: The most important first.
    """

    item: int
    score: float
    chance: float
    reasons: Sequence[Reason]


@dataclass(frozen=True)
class Suggestions:
    """A list, and all items that could have been drawn for it, with their scores."""

    items: Sequence[Suggestion]
    pool: Sequence[tuple[int, float]]


class Recommender:
    """A built application.

    Args:
        application: Its settings.
        place: Its folder.
    """

    def __init__(self, application: Recommend, place: Workplace) -> None:
        self._settings, self._place = application, place
        self.catalogue, self.history = load_history(place.folder)
        self._weights = load_weights(place.folder)
        self.vectors: Matrix = load_vectors(place.folder).mixed(self._weights.tuned)
        self._models = load_collaborative(place.folder / MODELS_NAME)
        self._search = open_search(self.vectors, place.folder / GRAPH_NAME)
        self._traits = traits_of(self.vectors, self.catalogue.texts)
        self._expected = expect(self._traits, self._models.popularity, self._models.exact)
        self.users = {name: at for at, name in enumerate(self.history.users)}
        self._towers = Towers(place, self._weights.tuned)
        self._lock = threading.Lock()

    def history_of(self, user: str, more: Sequence[tuple[str, float]] = ()) -> Ints:
        """What a user chose, the oldest first; each item once.

        Args:
            user: Of the table, or not.
            more: Items and times of events that the table does not have; they may be older than its own.
        """
        at = self.users.get(user)
        known = [] if at is None else zip(self.history.times_of(at), self.history.of(at).tolist(), strict=True)
        positions = self.catalogue.positions
        later = [(time, positions[item]) for item, time in more if item in positions]
        in_order = sorted([*known, *later], key=lambda event: event[0])
        return np.array(list(dict.fromkeys(item for _, item in in_order)), dtype=np.int64)

    def passed_of(self, user: str) -> Ints:
        """What a user met and did not choose, such as what was rated low."""
        return self.history.passed_of(self.users[user]) if user in self.users else np.empty(0, np.int64)

    def embed(self, text: str) -> Matrix:
        """The vector of a text."""
        with self._lock:
            return self._towers.embed(text)

    def suggest(
        self,
        history: Ints,
        *,
        passed: Ints | None = None,
        text: str,
        count: int = 10,
        temperature: float | None = None,
        diversity: float | None = None,
    ) -> Suggestions:
        """The items to show. What the user has met already is not among them.

        Args:
            history: What the user chose, the oldest first; may be empty.
            passed: What the user met and did not choose.
            text: What is looked for; then items are ordered by it, and by the user's taste where that is known.
            count: How many.
            temperature: The list is drawn by chance, and the chances are told; None: the best items.
            diversity: In place of the recipe's; not used where a list is drawn.
        """
        met = history if passed is None else np.concatenate([history, passed])
        items, scores, table = self._ranked(history, met)
        names = list(FEATURES)
        if text:
            items, scores, table, names = self._by_text(text, history, met, items, scores)
        items, scores, table = items[:POOL], scores[:POOL], table[:POOL]
        if temperature is None:
            share = self._settings.diversity if diversity is None else diversity
            places = diverse_order(scores, self.vectors[items], count, share)
            chances = np.ones(len(places))
        else:
            places = draw_list(scores.astype(np.float64), count, temperature, np.random.default_rng())
            chances = chances_of(scores.astype(np.float64), places.tolist(), temperature)
        found = [
            Suggestion(
                int(items[at]),
                float(scores[at]),
                float(chance),
                self._reasons(names, table[at], int(items[at]), history),
            )
            for at, chance in zip(places, chances, strict=True)
        ]
        return Suggestions(found, list(zip(items.tolist(), scores.tolist(), strict=True)))

    def suggest_new(self, history: Ints, count: int, passed: Ints | None) -> list[Suggestion]:
        """Items that nobody had chosen when this was built, by their texts."""
        places = new_items(self._models.popularity, [*history.tolist(), *([] if passed is None else passed.tolist())])
        if not len(places) or not len(history):
            return []
        text = user_vectors([history], self.vectors, HALF_LIFE) @ self.vectors[places].T
        known = self._models.by_ease(history_rows([history], len(self.vectors), HALF_LIFE))[:, self._models.exact]
        wish = self._traits.products(self._expected.wishes @ known.T, places).T
        scores = cold_scores(text, self._expected.popularity[places], wish, self._weights.cold)[0]
        best = np.argsort(-scores, kind="stable")[:count]
        return [
            Suggestion(
                int(places[at]),
                float(scores[at]),
                1.0,
                [Reason("new", NEW, float(scores[at]), self._alike(int(places[at]), history))],
            )
            for at in best
        ]  # fmt: skip

    def _ranked(self, history: Ints, met: Ints) -> tuple[Ints, Matrix, Matrix]:
        ranked = rank_features(
            self._models,
            self.vectors,
            self._search,
            history,
            half_life=self._settings.half_life,
            count=self._settings.candidates,
            passed=met,
        )
        items, scores = order(ranked, self._weights.ranking)
        at = {item: row for row, item in enumerate(ranked.items.tolist())}
        table = ranked.features[[at[item] for item in items.tolist()]] * self._weights.ranking
        return items, scores, table

    def _by_text(
        self, text: str, history: Ints, met: Ints, items: Ints, scores: Matrix
    ) -> tuple[Ints, Matrix, Matrix, list[str]]:
        """Items near a text: ordered by nearness, and half as much by the ranking where the user is known."""
        vector = self.embed(text)
        near = self._search.nearest(vector, self._settings.candidates + len(met))
        near = near[~np.isin(near, met)]
        ranks = dict(zip(items.tolist(), standardized(scores).tolist(), strict=True))
        lowest = min(ranks.values(), default=0.0)
        taste = np.array([ranks.get(item, lowest) for item in near.tolist()], np.float32)
        if not len(history):
            taste[:] = 0
        table = np.stack([standardized(self.vectors[near] @ vector), 0.5 * taste], axis=1)
        total = table.sum(axis=1)
        best = np.argsort(-total, kind="stable")
        return near[best], total[best], table[best], ["query", "taste"]

    def _reasons(self, names: Sequence[str], worth: Matrix, item: int, history: Ints) -> list[Reason]:
        meanings = {**MEANINGS, "query": "its text is like what you look for", "taste": "it fits what you chose"}
        best = [at for at in np.argsort(-worth, kind="stable")[:REASONS] if worth[at] > 0]
        because = {
            "together": self._together,
            "recently": self._together,
            "text": self._alike,
            "alike": self._near,
            "taste": self._together,
        }
        return [
            Reason(
                names[at],
                meanings[names[at]],
                float(worth[at]),
                because[names[at]](int(item), history) if names[at] in because else (),
            )
            for at in best
        ]

    def _together(self, item: int, history: Ints) -> list[int]:
        """The user's items that speak most for an item, by EASE."""
        places = self._models.place_in_ease
        if places[item] < 0:
            return []
        known = history[places[history] >= 0]
        return _most(known, self._models.ease[places[known], places[item]])

    def _alike(self, item: int, history: Ints) -> list[int]:
        """The user's items whose texts are nearest."""
        return _most(history, self.vectors[history] @ self.vectors[item])

    def _near(self, item: int, history: Ints) -> list[int]:
        """The user's items with the same people."""
        return _most(history, self._models.neighbours[history][:, item].toarray().ravel())


def _most(items: Ints, worth: Matrix) -> list[int]:
    best = np.argsort(-worth, kind="stable")[:2]
    return [int(items[at]) for at in best if worth[at] > 0]
