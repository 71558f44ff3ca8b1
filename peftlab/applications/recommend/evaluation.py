"""Judge a recommender by time: the first 80 % of events are known, and the others are to be foretold.

They are the first of each user, or the first of all (``split``). With the former a model may learn from what other
users did later. With the latter it learns nothing from later events, and only who had chosen something by then is
judged.

Every figure is of users, with an interval over users; two systems are compared on the same users. New items are judged
apart: a share of the items is hidden from the text tower and from all models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.building import (
    Weights,
    cold_shares,
    fit,
    load_weights,
    rank_users,
)
from peftlab.applications.recommend.cold import TEXT_ALONE, cold_case
from peftlab.applications.recommend.collaborative import Collaborative
from peftlab.applications.recommend.diversity import diverse_order, similarity_within
from peftlab.applications.recommend.history import History, Ints, hidden_items, load_history
from peftlab.applications.recommend.metrics import Scores, best_items, score_lists
from peftlab.applications.recommend.ranking import FEATURES, Ranked, learn_weights, order
from peftlab.applications.recommend.towers import TextVectors, load_vectors
from peftlab.applications.recommend.traits import traits_of
from peftlab.applications.recommend.vectors import history_rows, user_vectors
from peftlab.core.application import Workplace
from peftlab.core.audit import Figure, Findings, Unit
from peftlab.core.errors import DataError
from peftlab.statistics.means import mean_with_interval

if TYPE_CHECKING:
    from peftlab.applications.recommend import Recommend

SIZE = 10
USERS_AT_ONCE = 1024
TEXTS = ("text", "last")
SENTENCES = {
    "system": "The whole system, without diversity.",
    "served": "The whole system as it is served, with diversity.",
    "without_text": "The ranking without the features of texts, its weights learned anew.",
    "popularity": "What most people chose.",
    "item_knn": "Items with the same people as the user's (cosine).",
    "als": "Factors of implicit feedback (ALS).",
    "ease": "EASE alone.",
    "text": "The tuned text tower alone.",
    "untuned_text": "The text tower before tuning.",
}
COLD_SENTENCES = {
    "": "the text's vectors, and by the popularity and the wish that texts and words let expect",
    "_text": "the tuned tower alone",
    "_untuned": "the tower before tuning, and by the popularity and the wish that texts and words let expect",
    "_untuned_text": "the tower before tuning alone",
}
Matrix = NDArray[np.float32]


def evaluate_recommender(application: Recommend, place: Workplace) -> Findings:
    """Score the whole, each part alone, and new items."""
    catalogue, history = load_history(place.folder)
    vectors = load_vectors(place.folder)
    train, test = judged_events(application, history)
    hidden = hidden_items(history, application.cold_fraction, application.seed)
    place.reporter.say(f"models of the first {len(train)} of {len(history)} choices")
    weights = load_weights(place.folder)
    lists = warm_lists(application, train, vectors, weights)
    scores = {name: _score(each, train, test) for name, each in lists.items()}
    figures = [figure for name, each in scores.items() for figure in _figures(name, each)]
    figures += _differences(scores)
    figures += _likeness(lists, vectors.mixed(weights.tuned), test)
    figures += cold_figures(application, history, vectors, catalogue.texts, hidden, weights)
    notes = [
        *_who_is_judged(application, history, train, test),
        "All weights were chosen on an inner split by time of the training events.",
        f"Of the text's vectors {weights.tuned:.0%} are the tuned tower's, the others the model's before tuning.",
        "The text tower saw no event of the hidden items, so warm figures with text are a little too low.",
    ]
    return Findings(figures, notes)


def judged_events(application: Recommend, history: History) -> tuple[History, History]:
    """The training events, and those that are to be foretold: after one moment only those of users known by then.

    Raises:
        DataError: There is nothing to foretell.
    """
    train, test = history.cut_by(application.split)
    if application.split == "temporal_global":
        test = test.keep(train.is_active[test.user])
    if not len(test):
        raise DataError(
            "nobody who is known from the first 80 % of the events chose anything later, so there is nothing to judge",
            where=application.events.source,
            hint="Build it with `split: temporal_user`.",
        )
    return train, test


def _who_is_judged(application: Recommend, history: History, train: History, test: History) -> list[str]:
    users, left_out = len(history.users), int((~test.is_active).sum())
    if application.split == "temporal_user":
        return [f"{left_out} of {users} users have no later event, and are not judged."]
    moment, new = datetime.fromtimestamp(history.moment(), UTC), int((~train.is_active).sum())
    return [
        f"Events before {moment:%Y-%m-%d %H:%M} UTC are known, and nothing is learned from later ones.",
        f"{left_out} of {users} users are not judged: {new} have no earlier event, {left_out - new} no later one.",
    ]


def warm_lists(application: Recommend, train: History, vectors: TextVectors, weights: Weights) -> dict[str, Ints]:
    """Of each system the list of each user: users × 10."""
    models, mixed = fit(application, train), vectors.mixed(weights.tuned)
    ranked = rank_users(application, models, mixed, train)
    lists = {
        "system": _ranked_lists(ranked, weights.ranking),
        "served": _ranked_lists(ranked, weights.ranking, mixed, application.diversity),
        "without_text": _ranked_lists(ranked, _weights_without_text(application, train, mixed)),
        **baseline_lists(models, train),
        "text": _text_lists(application, train, vectors.tuned),
    }
    if vectors.untuned is not None:
        lists["untuned_text"] = _text_lists(application, train, vectors.untuned)
    return lists


def baseline_lists(models: Collaborative, train: History) -> dict[str, Ints]:
    """The lists of popularity, item-kNN, ALS and EASE."""
    rows = history_rows(train.each(), train.items)
    scores: dict[str, Callable[[slice], Matrix]] = {
        "popularity": lambda users: np.tile(models.popular, (rows[users].shape[0], 1)),
        "item_knn": lambda users: models.by_neighbours(rows[users]),
        "als": lambda users: models.by_factors(rows[users]),
        "ease": lambda users: models.by_ease(rows[users]),
    }
    return {name: _unseen(of, train) for name, of in scores.items()}


def cold_figures(
    application: Recommend,
    history: History,
    vectors: TextVectors,
    texts: Sequence[str],
    hidden: NDArray[np.bool_],
    weights: Weights,
) -> list[Figure]:
    """How well hidden items are found among each other, from the first events of the other items.

    To be found are the choices of hidden items among each user's last events (``cold``), and all that users made of
    them, whenever (``cold_any_time``).
    """
    train, test = judged_events(application, history)
    ever = history.keep((train.is_active | test.is_active)[history.user])
    wanted = {"cold": _of_hidden(test, hidden), "cold_any_time": _of_hidden(ever, hidden)}
    known = sum(bool(len(each)) for each in wanted["cold"])
    if not known:
        return []
    traits = traits_of(vectors.mixed(weights.tuned), texts)
    systems = {"": (traits, weights.cold), "_text": (traits.with_vectors(vectors.tuned), TEXT_ALONE)}
    if vectors.untuned is not None:
        before = traits.with_vectors(vectors.untuned)
        systems["_untuned"] = (before, cold_shares(application, train, before, hidden)[0])
        systems["_untuned_text"] = (before, TEXT_ALONE)
    lists = {}
    for name, (each, worth) in systems.items():
        case = cold_case(
            train,
            each,
            hidden,
            unseen=hidden,
            exact_items=application.exact_items,
            regularization=application.regularization,
        )
        lists[name] = case.lists(worth)
    figures = []
    for kind, later in wanted.items():
        scores = {
            name: score_lists(each, later, train.popularity, int(train.is_active.sum()), int(hidden.sum()))
            for name, each in lists.items()
        }
        figures += _cold(kind, scores, int(hidden.sum()))
    chance = SIZE / max(int(hidden.sum()), SIZE)
    figures.append(_whole(f"cold.random_recall@{SIZE}", chance, known, "New items drawn at random."))
    return figures


def _of_hidden(events: History, hidden: NDArray[np.bool_]) -> list[Ints]:
    return [each[hidden[each]] for each in events.each()]


def _cold(kind: str, scores: dict[str, Scores], hidden: int) -> list[Figure]:
    """Figures of one kind of choices that are to be found, and what tuning adds to them."""
    when = "users' last events" if kind == "cold" else "all events of users, those of earlier times too"
    figures = []
    for name, each in scores.items():
        what = f"New items by {COLD_SENTENCES[name]}; {hidden} items were hidden, and their choices among {when} count."
        figures.append(_mean(f"{kind}{name}.recall@{SIZE}", each.recall, what))
        figures.append(_mean(f"{kind}{name}.ndcg@{SIZE}", each.ndcg, what))
    for suffix in ("", "_text"):
        if f"_untuned{suffix}" in scores:
            gain = scores[suffix].recall - scores[f"_untuned{suffix}"].recall
            sentence = "What tuning adds for new items, on the same users."
            figures.append(_mean(f"{kind}{suffix}.recall@{SIZE}_by_tuning", gain, sentence, "difference"))
    return figures


def _score(lists: Ints, train: History, test: History) -> Scores:
    return score_lists(lists, test.each(), train.popularity, int(train.is_active.sum()), train.items)


def _figures(name: str, scores: Scores) -> list[Figure]:
    what, count = SENTENCES[name], len(scores.recall)
    return [
        _mean(f"{name}.recall@{SIZE}", scores.recall, f"{what} Share of later choices among the first {SIZE}."),
        _mean(f"{name}.ndcg@{SIZE}", scores.ndcg, f"{what} The same, with places: 1 is the best possible list."),
        _whole(
            f"{name}.coverage", scores.coverage, count, "Share of the catalogue that somebody was shown.", better=True
        ),
        _whole(f"{name}.novelty", scores.novelty, count, "Bits of surprise of an item that was shown.", "number"),
    ]


def _differences(scores: dict[str, Scores]) -> list[Figure]:
    """The system against each other one, on the same users."""
    figures = []
    for name in ("popularity", "item_knn", "als", "ease", "without_text"):
        for metric in ("recall", "ndcg"):
            gain = getattr(scores["system"], metric) - getattr(scores[name], metric)
            sentence = f"The system less {name.replace('_', ' ')}, on the same users."
            figures.append(_mean(f"system.{metric}@{SIZE}_above_{name}", gain, sentence, "difference"))
    if "untuned_text" in scores:
        gain = scores["text"].recall - scores["untuned_text"].recall
        sentence = "What tuning adds to the tower alone, on the same users."
        figures.append(_mean(f"text.recall@{SIZE}_by_tuning", gain, sentence, "difference"))
    return figures


def _likeness(lists: dict[str, Ints], vectors: Matrix, test: History) -> list[Figure]:
    figures = []
    judged = np.diff(test.starts) > 0
    for name in ("system", "served"):
        alike = np.array([similarity_within(vectors[row[row >= 0]]) for row in lists[name][judged]])
        figures.append(_mean(f"{name}.likeness", alike, "Mean cosine of two items of a list.", "number", better=None))
    return figures


def _whole(
    name: str, value: float, count: int, sentence: str, unit: Unit = "share", *, better: bool | None = None
) -> Figure:
    return Figure(name, value, count, sentence, sampled="users", unit=unit, higher_is_better=better)


def _mean(
    name: str, values: NDArray[np.float64], sentence: str, unit: Unit = "share", *, better: bool | None = True
) -> Figure:
    found = mean_with_interval(values, changes=unit == "difference")
    return found.figure(
        name,
        sentence,
        sampled="users",
        unit=unit,
        higher_is_better=better,
    )


def _ranked_lists(
    ranked: Sequence[Ranked], weights: Matrix, vectors: Matrix | None = None, diversity: float = 0.0
) -> Ints:
    lists = np.full((len(ranked), SIZE), -1, dtype=np.int64)
    for user, each in enumerate(ranked):
        items, scores = order(each, weights)
        if vectors is not None:
            items = pick(items, scores, vectors, SIZE, diversity)
        lists[user, : len(items[:SIZE])] = items[:SIZE]
    return lists


def pick(items: Ints, scores: Matrix, vectors: Matrix, count: int, diversity: float) -> Ints:
    """The items of a list that is diverse, out of the best ones."""
    pool = 5 * count
    places = diverse_order(scores[:pool], vectors[items[:pool]], count, diversity)
    return items[places]


def _weights_without_text(application: Recommend, train: History, vectors: Matrix) -> Matrix:
    early, late = train.cut()
    ranked = rank_users(application, fit(application, early), vectors, early)
    return learn_weights(ranked, late.each(), only=[name for name in FEATURES if name not in TEXTS])


def _text_lists(application: Recommend, train: History, vectors: Matrix) -> Ints:
    users = user_vectors(train.each(), vectors, application.half_life)
    return _unseen(lambda some: users[some] @ vectors.T, train)


def _unseen(scores: Callable[[slice], Matrix], train: History) -> Ints:
    """Of each user the best of the items that it has not met; no table of all users and items is held."""
    lists = []
    for start in range(0, len(train.users), USERS_AT_ONCE):
        users = slice(start, start + USERS_AT_ONCE)
        found = scores(users)
        found[train.met[users].nonzero()] = -np.inf
        lists.append(best_items(found, SIZE))
    return np.concatenate(lists)
