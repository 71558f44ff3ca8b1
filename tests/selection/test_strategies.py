"""Each strategy against a naive reference, and what holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus
from sklearn.linear_model import LogisticRegression

from peftlab.core.errors import RunFailedError
from peftlab.core.selection import STRATEGIES, Candidates, Choice, Strategy, choose
from peftlab.testing import StrategyContract
from peftlab.testing.plugin_contract import Section
from peftlab.testing.strategy_contract import CLASSES, some_candidates


def positions(name: str, given: Candidates, count: int, /, **settings: int) -> list[int]:
    return [choice.position for choice in choose(STRATEGIES[name](**settings), given, count, seed=0)]


def divergence(candidates: Candidates, at: int) -> float:
    far = [math.dist(candidates.vectors[at], other) for other in candidates.labelled_vectors]
    near = sorted(range(len(far)), key=far.__getitem__)[:10]
    own = candidates.probabilities[at]
    each = [
        sum(p * math.log(p / q) for p, q in zip(candidates.labelled_probabilities[n], own, strict=True)) for n in near
    ]
    return sum(each) / len(each)


SCORES = {
    "entropy": lambda given, at: -sum(p * math.log(p) for p in given.probabilities[at]),
    "margin": lambda given, at: sorted(given.probabilities[at])[-2] - sorted(given.probabilities[at])[-1],
    "cal": divergence,
}


@pytest.mark.parametrize("name", SCORES)
def test_the_highest_scores_where_the_batch_is_not_spread(name: str) -> None:
    given = some_candidates()
    best = sorted(range(given.count), key=lambda at: -SCORES[name](given, at))
    assert positions(name, given, 8, candidates=1) == best[:8]
    spread = positions(name, given, 6, candidates=3)
    assert set(spread) < set(best[:18])
    assert spread == sorted(spread, key=best.index)


@pytest.mark.parametrize("name", SCORES)
def test_a_spread_batch_has_a_text_of_each_group(name: str) -> None:
    """Four bundles of vectors: the scores alone may choose all texts of one, the spread batch one of each."""
    given, bundles = some_candidates(), np.arange(60) % 4
    vectors = np.eye(4)[bundles] + 1e-3 * given.vectors[:, :4]
    given = Candidates(
        60, CLASSES, given.probabilities, vectors, given.labelled_probabilities, given.labelled_vectors[:, :4]
    )
    assert set(bundles[positions(name, given, 4, candidates=15)]) == {0, 1, 2, 3}


def test_badge_is_k_means_plus_plus_of_scikit_learn_on_the_gradients() -> None:
    given = some_candidates()
    wrong = given.probabilities - np.eye(3)[given.probabilities.argmax(axis=1)]
    gradients = np.einsum("ij,ik->ijk", wrong, given.vectors).reshape(given.count, -1)
    for seed in range(5):
        _, expected = kmeans_plusplus(gradients, 12, random_state=np.random.RandomState(seed), n_local_trials=1)
        found = STRATEGIES["badge"]().select(given, 12, np.random.RandomState(seed))
        assert [choice.position for choice in found] == expected.tolist()
    nearest = np.linalg.norm(
        gradients[found[3].position] - gradients[[choice.position for choice in found[:3]]], axis=1
    )
    assert found[3].score == pytest.approx(nearest.min())


def test_core_set_is_the_greedy_k_centre() -> None:
    given = some_candidates()
    centres, expected = list(given.labelled_vectors), []
    for _ in range(10):
        distances = [min(math.dist(vector, centre) for centre in centres) for vector in given.vectors]
        expected.append(int(np.argmax(distances)))
        centres.append(given.vectors[expected[-1]])
    assert positions("core_set", given, 10) == expected


def test_discriminative_is_a_classifier_of_pool_and_labelled() -> None:
    given = some_candidates()
    everything = np.concatenate([given.labelled_vectors, given.vectors])
    everything = (everything - everything.mean(axis=0)) / everything.std(axis=0)
    fitted = LogisticRegression(class_weight="balanced", max_iter=200).fit(everything, [0] * 15 + [1] * 60)
    expected = np.argsort(-fitted.predict_proba(everything[15:])[:, 1], kind="stable")[:6]
    assert positions("discriminative", given, 6, rounds=1) == expected.tolist()
    assert positions("discriminative", given, 6) != expected.tolist()  # what was chosen counts as labelled


class TestStrategies(StrategyContract):
    def sections(self) -> Sequence[Section]:
        return [{"type": name} for name in STRATEGIES]


def test_random_depends_on_the_seed() -> None:
    drawn = [[c.position for c in choose(STRATEGIES["random"](), some_candidates(), 7, seed=seed)] for seed in range(3)]
    assert drawn[0] != drawn[1] != drawn[2]


def test_a_strategy_that_chooses_a_text_twice_is_found_out() -> None:
    class Twice(Strategy):
        def select(self, candidates, count, generator):
            return [Choice(0, None, "again")] * count

    with pytest.raises(RunFailedError, match="3 choices of 1 different texts"):
        choose(Twice(), some_candidates(), 3, seed=0)
