"""What ``app build`` makes once the text tower is tuned: vectors, models of choices, and weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.cold import Shares, choose_shares
from peftlab.applications.recommend.collaborative import Collaborative, fit_collaborative, write_collaborative
from peftlab.applications.recommend.history import History, hidden_items, load_history
from peftlab.applications.recommend.ranking import FEATURES, Ranked, learn_weights, rank_features
from peftlab.applications.recommend.regularization import choose_regularization
from peftlab.applications.recommend.search import Search, build_graph
from peftlab.applications.recommend.towers import TextVectors, make_vectors
from peftlab.applications.recommend.traits import Traits, traits_of
from peftlab.core.application import Workplace
from peftlab.core.errors import UserError
from peftlab.core.files import write_text

if TYPE_CHECKING:
    from peftlab.applications.recommend import Recommend

MODELS_NAME = "models.npz"
GRAPH_NAME = "graph.usearch"
WEIGHTS_NAME = "weights.json"
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """What was chosen on the inner split.

    Args:
        ranking: What each feature is worth.
        cold: Worth of the text, the expected popularity and the wish of new items.
        tuned: What the tuned tower's vectors count beside those of the model before tuning.
    """

    ranking: Matrix
    cold: Shares
    tuned: float


def build_index(application: Recommend, place: Workplace) -> None:
    """Make all files; those that are there stay."""
    catalogue, history = load_history(place.folder)
    say = place.reporter.say
    vectors = make_vectors(place, catalogue.texts)
    if not (place.folder / WEIGHTS_NAME).exists():
        say("weights of the ranking, from the last fifth of each user's training events")
        train, _ = history.cut_by(application.split)
        hidden = hidden_items(history, application.cold_fraction, application.seed)
        write_weights(place.folder, learn(application, train, vectors, catalogue.texts, hidden))
    graph = place.folder / GRAPH_NAME
    if len(catalogue) >= application.approximate_from and not graph.exists():
        say(f"a graph over {len(catalogue)} vectors")
        build_graph(vectors.mixed(load_weights(place.folder).tuned), graph)
    if not (place.folder / MODELS_NAME).exists():
        say(f"models of {len(history)} choices of {len(history.users)} users")
        write_collaborative(place.folder / MODELS_NAME, fit(application, history))


def fit(application: Recommend, history: History) -> Collaborative:
    """The models of choices, with the recipe's settings."""
    return fit_collaborative(
        history,
        factors=application.factors,
        exact_items=application.exact_items,
        regularization=application.regularization or choose_regularization(history, application.exact_items),
        seed=application.seed,
    )


def rank_users(application: Recommend, models: Collaborative, vectors: Matrix, history: History) -> list[Ranked]:
    """The candidates of each user, with their features."""
    search = Search(vectors)
    return [
        rank_features(
            models, vectors, search, each, half_life=application.half_life, count=application.candidates, passed=passed
        )
        for each, passed in zip(history.each(), history.passed_each(), strict=True)
    ]


def learn(
    application: Recommend, train: History, vectors: TextVectors, texts: Sequence[str], hidden: NDArray[np.bool_]
) -> Weights:
    """Choose all weights, from training events alone.

    Args:
        application: Its settings.
        train: Training events; the last fifth of each user's is what is to be foretold.
        vectors: Of all items.
        texts: Of all items.
        hidden: Items that are kept from the text tower.
    """
    tried = {share: traits_of(vectors.mixed(share), texts) for share in vectors.shares}
    cold = {share: cold_shares(application, train, traits, hidden) for share, traits in tried.items()}
    tuned = max(cold, key=lambda share: cold[share][1])  # of equals the first
    early, late = train.cut()
    ranked = rank_users(application, fit(application, early), tried[tuned].vectors, early)
    return Weights(learn_weights(ranked, late.each()), cold[tuned][0], tuned)


def cold_shares(
    application: Recommend, train: History, traits: Traits, hidden: NDArray[np.bool_]
) -> tuple[Shares, float]:
    """What is worth what for new items, with the recipe's settings, and how many it finds."""
    return choose_shares(
        train,
        traits,
        hidden,
        exact_items=application.exact_items,
        regularization=application.regularization,
        seed=application.seed,
    )


def write_weights(folder: Path, weights: Weights) -> None:
    """Write them as JSON that people can read."""
    values = {
        "ranking": dict(zip(FEATURES, map(float, weights.ranking), strict=True)),
        "cold": list(weights.cold),
        "tuned": weights.tuned,
    }
    write_text(folder / WEIGHTS_NAME, json.dumps(values, indent=2) + "\n")


def load_weights(folder: Path) -> Weights:
    """What :func:`write_weights` wrote.

    Raises:
        UserError: They are of other features.
    """
    values = json.loads((folder / WEIGHTS_NAME).read_text(encoding="utf-8"))
    if tuple(values["ranking"]) != FEATURES:
        raise UserError(
            "the weights are those of other features", where=str(folder / WEIGHTS_NAME), hint="Build it anew."
        )
    ranking = np.array(list(values["ranking"].values()), np.float32)
    return Weights(ranking, tuple(map(float, values["cold"])), float(values["tuned"]))
