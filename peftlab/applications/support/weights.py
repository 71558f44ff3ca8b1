"""Logistic regressions that are fitted once, and kept as numbers in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SMALLEST = 1e-6


@dataclass(frozen=True)
class Weights:
    """Of standardised features.

    Args:
        mean: Of each feature.
        scale: Of each feature.
        weight: Of each feature.
        bias: Of all.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weight: tuple[float, ...]
    bias: float

    @classmethod
    def fit(cls, features: Floats, right: NDArray[np.bool_]) -> Weights:
        """Fit rows × features, with an L2 penalty; the mean alone where all rows are right, or none is."""
        from sklearn.linear_model import LogisticRegression

        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > SMALLEST, scale, 1.0)
        if len(set(right.tolist())) < 2:
            share = (right.sum() + 0.5) / (len(right) + 1)
            zeros = tuple(0.0 for _ in mean)
            return cls(_plain(mean), _plain(scale), zeros, float(np.log(share / (1 - share))))
        model = LogisticRegression(C=1.0, max_iter=1000).fit((features - mean) / scale, right)
        return cls(_plain(mean), _plain(scale), _plain(model.coef_[0]), float(model.intercept_[0]))

    @classmethod
    def fit_order(cls, better: Floats, worse: Floats) -> Weights:
        """Fit which of two comes first, from pairs (pairs × features each), with an L2 penalty.

        The loss is that of RankNet (Burges et al., ICML 2005), of a linear score. Without pairs all count alike.
        """
        from sklearn.linear_model import LogisticRegression

        apart = better - worse
        scale = np.sqrt((apart**2).sum(axis=0) / max(len(apart), 1))
        scale = np.where(scale > SMALLEST, scale, 1.0)
        if not len(apart):
            return cls(tuple(0.0 for _ in scale), _plain(scale), tuple(1.0 for _ in scale), 0.0)
        rows = np.concatenate([apart, -apart]) / scale
        labels = np.repeat([True, False], len(apart))
        model = LogisticRegression(C=1.0, max_iter=1000, fit_intercept=False).fit(rows, labels)
        return cls(tuple(0.0 for _ in scale), _plain(scale), _plain(model.coef_[0]), 0.0)

    def log_odds(self, features: Floats) -> Floats:
        """Of rows of any shape, whose last axis is the features."""
        return np.asarray((features - self.mean) / self.scale @ np.array(self.weight) + self.bias)

    def probability(self, features: Floats) -> Floats:
        """The same, from 0 to 1."""
        from scipy.special import expit

        return np.asarray(expit(self.log_odds(features)))

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Weights:
        """From what ``dataclasses.asdict`` gave."""
        rows = {key: tuple(values[key]) for key in ("mean", "scale", "weight")}
        return cls(**rows, bias=float(values["bias"]))


def _plain(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
