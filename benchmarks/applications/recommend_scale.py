"""A recommender of 100,000 items: how long its index takes, and a list for one user.

    python benchmarks/applications/recommend_scale.py --output benchmarks/applications/results/recommend_scale.json

Catalogue, users and vectors are made for this (the text tower's own time is not counted; ``--vectors`` says how many
texts a second it embeds). Nothing is sent anywhere. It ends by itself, within minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from peftlab.applications.recommend.collaborative import fit_collaborative
from peftlab.applications.recommend.history import History
from peftlab.applications.recommend.ranking import FEATURES, order, rank_features
from peftlab.applications.recommend.search import Search, build_graph, open_search
from peftlab.applications.recommend.vectors import unit

SIZE, TASTES, EACH = 384, 200, 40


def make(items: int, users: int, seed: int) -> tuple[History, np.ndarray]:
    """Users with a taste, items with long-tailed popularity, vectors that lie around tastes."""
    draws = np.random.default_rng(seed)
    centres = draws.normal(size=(TASTES, SIZE)).astype(np.float32)
    taste = draws.integers(TASTES, size=items)
    vectors = unit(centres[taste] + 0.8 * draws.normal(size=(items, SIZE)).astype(np.float32))
    members = [np.flatnonzero(taste == at) for at in range(TASTES)]
    user, item = [], []
    for at in range(users):
        pool = np.concatenate([members[each] for each in draws.choice(TASTES, 2, replace=False)])
        places = np.unique((len(pool) * draws.random(EACH) ** 2).astype(int))
        user.append(np.full(len(places), at))
        item.append(draws.permutation(pool[places]))
    users_, items_ = np.concatenate(user), np.concatenate(item)
    return History(
        [str(at) for at in range(users)], users_, items_, np.arange(len(users_), dtype=float), items
    ), vectors


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--asked", type=int, default=200)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    history, vectors = make(given.items, given.users, 0)
    start = time.perf_counter()
    models = fit_collaborative(history, factors=64, exact_items=4000, regularization=200.0, seed=0)
    fitted = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        build_graph(vectors, Path(folder) / "graph")
        built = time.perf_counter()
        graph, exact = open_search(vectors, Path(folder) / "graph"), Search(vectors)
        weights = np.ones(len(FEATURES), np.float32)
        draws = np.random.default_rng(1)
        seconds: dict[str, list[float]] = {"graph": [], "exact": []}
        shared = []
        for user in draws.choice(given.users, given.asked, replace=False):
            chosen = history.of(int(user))
            for name, search in (("graph", graph), ("exact", exact)):
                began = time.perf_counter()
                order(rank_features(models, vectors, search, chosen, half_life=20.0, count=100), weights)
                seconds[name].append(time.perf_counter() - began)
            vector = vectors[chosen[-1]]
            shared.append(len(set(graph.nearest(vector, 100)) & set(exact.nearest(vector, 100))) / 100)
    result = {
        "items": given.items,
        "users": given.users,
        "events": len(history),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "machine": platform.machine(),
        "models_seconds": fitted - start,
        "graph_seconds": built - fitted,
        "graph_recall_at_100": float(np.mean(shared)),
        "milliseconds_a_user": {
            name: {str(q): float(np.quantile(each, q) * 1000) for q in (0.5, 0.95, 1.0)}
            for name, each in seconds.items()
        },
        "asked": given.asked,
    }
    print(json.dumps(result, indent=2))
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
