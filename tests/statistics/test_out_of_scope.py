"""Scores of texts that belong to no class: against scikit-learn, and whether thresholds and intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from peftlab.statistics.out_of_scope import (
    MahalanobisScorer,
    NeighborScorer,
    auroc,
    energy_scores,
    false_acceptance,
    rejection_threshold,
)


@pytest.mark.parametrize("seed", range(40))
def test_separation_is_that_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    known = generator.normal(size=generator.integers(2, 90))
    strange = generator.normal(generator.normal(), size=generator.integers(2, 90))
    if seed % 2:  # many ties
        known, strange = known.round(), strange.round()
    is_strange = np.repeat([0, 1], [len(known), len(strange)])
    scores = np.concatenate([known, strange])
    found = auroc(known, strange)
    assert found.value == pytest.approx(roc_auc_score(is_strange, scores))
    assert found.low <= found.value <= found.high
    accepted, kept, _ = roc_curve(1 - is_strange, -scores, drop_intermediate=False)
    share = false_acceptance(known, strange, generator)
    assert share.value == pytest.approx(accepted[kept >= 0.95 - 1e-9][0])
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    from scipy.stats import norm

    covered = {"auroc": 0, "accepted": 0}
    truth = {"auroc": norm.cdf(2 / math.sqrt(2)), "accepted": norm.cdf(norm.ppf(0.95) - 2)}
    for seed in range(300):
        generator = np.random.default_rng(seed)
        known, strange = generator.normal(size=150), generator.normal(2, size=80)
        area, share = auroc(known, strange), false_acceptance(known, strange, generator, draws=300)
        covered["auroc"] += area.low <= truth["auroc"] <= area.high
        covered["accepted"] += share.low <= truth["accepted"] <= share.high
    assert 0.92 <= covered["auroc"] / 300 <= 0.98
    assert 0.91 <= covered["accepted"] / 300 <= 0.985


def test_rows_that_are_parted_wholly_are_not_certain() -> None:
    found = auroc(np.arange(20.0), np.arange(20.0) + 100)
    assert (found.value, found.high) == (1, 1)
    assert 0.8 < found.low < 0.9  # 20 of 20 successes
    none = false_acceptance(np.arange(20.0), np.arange(20.0) + 100, np.random.default_rng(0))
    assert (none.value, none.low) == (0, 0)
    assert none.high > 0.1


def test_energy() -> None:
    logits = np.random.default_rng(0).normal(size=(30, 5)) * 10
    assert energy_scores(logits) == pytest.approx(-logsumexp(logits, axis=1))
    assert energy_scores(logits, 4) == pytest.approx(-4 * logsumexp(logits / 4, axis=1))


def test_distances() -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(4, 12)) * 3
    classes = generator.integers(4, size=200) * 2  # numbers without rows between them
    mixing = generator.normal(size=(12, 12))
    features = centres[classes // 2] + generator.normal(size=(200, 12)) @ mixing
    new = generator.normal(size=(50, 12)) * 4
    scorer = MahalanobisScorer.fit(features, classes)
    means = np.array([features[classes == each].mean(0) for each in (0, 2, 4, 6)])
    centred = features - means[classes // 2]
    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    inverse = np.linalg.inv(covariance)
    expected = [min((row - mean) @ inverse @ (row - mean) for mean in means) for row in new]
    assert scorer.score(new) == pytest.approx(expected)
    nearest = NearestNeighbors(n_neighbors=3).fit(normalize(features)).kneighbors(normalize(new))[0][:, -1]
    assert NeighborScorer.fit(features, 3).score(new) == pytest.approx(nearest)
    for each in (scorer, NeighborScorer.fit(features, 3)):
        assert len(each.score(np.empty((0, 12)))) == 0


def test_more_sizes_than_rows() -> None:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(30, 80))
    scorer = MahalanobisScorer.fit(features, np.arange(30) % 3)
    assert np.isfinite(scorer.score(generator.normal(size=(10, 80)))).all()


def test_classes_without_any_spread() -> None:
    scorer = MahalanobisScorer.fit(np.repeat(np.eye(2), 3, axis=0), np.repeat([0, 1], 3))
    near, far = scorer.score(np.array([[1.0, 0.0], [3.0, 3.0]]))
    assert near == 0
    assert np.isfinite(far)
    assert far > 0


def test_what_cannot_be_learnt_from() -> None:
    with pytest.raises(ValueError, match="2 rows of 2 classes"):
        MahalanobisScorer.fit(np.eye(2), np.arange(2))
    with pytest.raises(ValueError, match="no neighbour number 5"):
        NeighborScorer.fit(np.eye(2))
    with pytest.raises(ValueError, match="known and strange"):
        auroc(np.zeros(0), np.zeros(2))


def test_a_threshold_rejects_as_few_known_rows_as_it_promises() -> None:
    generator = np.random.default_rng(0)
    rejected = []
    for _ in range(400):
        scores = generator.exponential(size=300)
        rejected.append((scores[100:] > rejection_threshold(scores[:100], rejected=0.05)).mean())
    assert np.mean(rejected) == pytest.approx(5 / 101, abs=0.004)
    assert rejection_threshold(np.arange(18.0)) == math.inf  # 18 rows promise no 5 %
