"""Texts that belong to none of a model's classes: scores that tell them apart, how well they do, and a threshold.

A score is higher the less a text looks like the known ones. "Known" rows belong to one of the classes; "strange" rows
to none. Use: ``score`` validation rows, set ``rejection_threshold`` on the known of them, and reject what is above it::

    scorer = MahalanobisScorer.fit(train_features, train_classes)
    threshold = rejection_threshold(scorer.score(validation_features), rejected=0.05)
    is_strange = scorer.score(new_features) > threshold
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.abstention import conformal_threshold
from peftlab.statistics.proportions import wilson_interval

Floats = NDArray[np.float64]
KEPT = 0.95
"""Share of the known rows that are kept where strange ones that slip through are counted (FPR at 95 % TPR)."""
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Separation:
    """A measure of how well scores part strange rows from known ones, 0 to 1, with its interval."""

    value: float
    low: float
    high: float


def energy_scores(logits: Floats, temperature: float = 1.0) -> Floats:
    """The free energy of each row: −T · log Σ exp(logit / T) (Liu et al., NeurIPS 2020).

    Args:
        logits: Rows × classes, not calibrated.
        temperature: T; more than 1 lets small logits count more.
    """
    from scipy.special import logsumexp

    return np.asarray(-temperature * logsumexp(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


@dataclass(frozen=True)
class MahalanobisScorer:
    """Squared distance to the nearest class mean, by one covariance for all classes (Lee et al., NeurIPS 2018).

    The covariance is shrunk as Ledoit and Wolf do (Journal of Multivariate Analysis 88, 2004).

    Both fields are plain arrays, so that they can be stored.

    Args:
        means: Classes × size, whitened.
        whitening: Size × size; features times it have the unit matrix as their covariance within classes.
    """

    means: Floats
    whitening: Floats

    @classmethod
    def fit(cls, features: Floats, classes: NDArray[np.int64]) -> Self:
        """Learn from known rows.

        Args:
            features: Rows × size.
            classes: The class of each row, from 0; numbers without rows are left out.

        Raises:
            ValueError: There are no rows, or no class has two.
        """
        from sklearn.covariance import ledoit_wolf

        features = np.asarray(features, dtype=np.float64)
        names, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
        if len(features) <= len(names):
            raise ValueError(f"{len(features)} rows of {len(names)} classes do not tell how features vary in a class")
        sums = np.zeros((len(names), features.shape[1]))
        np.add.at(sums, places, features)
        means = sums / counts[:, None]
        covariance, _ = ledoit_wolf(features - means[places], assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        largest = float(values.max()) or 1.0  # without any spread within classes, distances are as they are
        whitening = vectors / np.sqrt(np.maximum(values, largest * 1e-12))
        return cls(means @ whitening, whitening)

    def score(self, features: Floats) -> Floats:
        """The score of each row (rows × size)."""
        found = []
        for part in _parts(features):
            white = part @ self.whitening
            squares = (white**2).sum(1)[:, None] - 2 * white @ self.means.T + (self.means**2).sum(1)
            found.append(squares.min(axis=1))
        return np.asarray(np.maximum(np.concatenate([np.empty(0), *found]), 0))


@dataclass(frozen=True)
class NeighborScorer:
    """Distance to the k-th nearest known row, all features of length 1 (Sun et al., ICML 2022).

    Args:
        known: Known rows × size, of length 1.
        neighbors: k.
    """

    known: Floats
    neighbors: int

    @classmethod
    def fit(cls, features: Floats, neighbors: int = 5) -> Self:
        """Keep the known rows (rows × size).

        Raises:
            ValueError: There are fewer rows than neighbours.
        """
        if not 1 <= neighbors <= len(features):
            raise ValueError(f"{len(features)} rows have no neighbour number {neighbors}")
        return cls(_of_length_one(features), neighbors)

    def score(self, features: Floats) -> Floats:
        """The score of each row (rows × size), 0 to 2. A row that is known itself is its own nearest."""
        at = len(self.known) - self.neighbors
        found = []
        for part in _parts(features):
            likeness = np.partition(_of_length_one(part) @ self.known.T, at, axis=1)[:, at]
            found.append(np.sqrt(np.maximum(2 - 2 * likeness, 0)))
        return np.concatenate([np.empty(0), *found])


def auroc(known: Floats, strange: Floats, level: float = 0.95) -> Separation:
    """The chance that a strange row scores above a known one; ties count half. 0.5: the scores tell nothing.

    The interval is DeLong's (Biometrics 44, 1988) for the logit, so that it stays within 0 and 1. Where the rows are
    parted wholly there is no variance to go by; then it is Wilson's for as many rows as the smaller side has.

    Args:
        known: Scores of known rows.
        strange: Scores of strange rows.
        level: Coverage of the interval.

    Raises:
        ValueError: One of them has no rows.
    """
    from scipy.special import expit, logit, ndtri
    from scipy.stats import rankdata

    if not (len(known) and len(strange)):
        raise ValueError("known and strange rows are needed")
    ranks = rankdata(np.concatenate([known, strange]))
    # For each row, the share of the other side that it stands above (strange) or below (known).
    of_known = 1 - (ranks[: len(known)] - rankdata(known)) / len(strange)
    of_strange = (ranks[len(known) :] - rankdata(strange)) / len(known)
    value = float(of_strange.mean())
    variance = sum(float(each.var(ddof=1)) / len(each) for each in (of_known, of_strange) if len(each) > 1)
    fewest = min(len(known), len(strange))
    if variance == 0 or not 0 < value < 1 or fewest < 2:
        return Separation(value, *wilson_interval(value * fewest, fewest, level))
    half = float(ndtri((1 + level) / 2)) * math.sqrt(variance) / (value * (1 - value))
    return Separation(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def false_acceptance(
    known: Floats, strange: Floats, generator: np.random.Generator, *, level: float = 0.95, draws: int = 1000
) -> Separation:
    """The share of strange rows that slip through where a share of the known ones is kept (FPR at 95 % TPR).

    The interval comes from drawing both kinds of rows with replacement, since the threshold depends on the known rows;
    where no strange row slips through, or all do, it is Wilson's.

    Args:
        known: Scores of known rows.
        strange: Scores of strange rows.
        generator: Draws.
        level: Coverage of the interval.
        draws: How many.

    Raises:
        ValueError: One of them has no rows.
    """
    if not (len(known) and len(strange)):
        raise ValueError("known and strange rows are needed")
    at = max(math.ceil(KEPT * len(known) - 1e-9), 1) - 1
    known, strange = np.sort(known), np.sort(strange)
    value = float(np.searchsorted(strange, known[at], side="right")) / len(strange)
    if value in (0, 1):
        return Separation(value, *wilson_interval(value * len(strange), len(strange), level))
    # Drawn positions in sorted order: the quantile of the drawn scores is the score at that position.
    drawn_places = (generator.integers(len(known), size=len(known)) for _ in range(draws))
    places = np.array([np.partition(each, at)[at] for each in drawn_places])
    slipping = np.searchsorted(strange, known[places], side="right") / len(strange)
    drawn = generator.binomial(len(strange), slipping) / len(strange)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Separation(value, float(low), float(high))


def rejection_threshold(known: Floats, rejected: float = 1 - KEPT) -> float:
    """The score above which a row is rejected, so that new known rows are rejected with at most a given probability.

    The promise holds for known rows that were not trained on, of the same kind as new ones (split-conformal).

    Args:
        known: Scores of known validation rows.
        rejected: Share of the known rows that may be rejected.

    Returns:
        Infinite where there are too few rows to promise it: fewer than 1 / ``rejected`` − 1.
    """
    return conformal_threshold(np.asarray(known, dtype=np.float64), 1 - rejected)


def _of_length_one(features: Floats) -> Floats:
    features = np.asarray(features, dtype=np.float64)
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))


def _parts(features: Floats) -> list[Floats]:
    features = np.asarray(features, dtype=np.float64)
    return [features[start : start + ROWS_AT_ONCE] for start in range(0, len(features), ROWS_AT_ONCE)]
