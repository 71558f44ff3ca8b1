"""Intervals of a mean over seeds and examples together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.crossed import Floats, VarianceOfMean, variance_of_mean
from peftlab.statistics.means import interval_of_same_changes
from peftlab.statistics.proportions import wilson_interval, wilson_interval_of_mean

FEW_ERRORS = 15
"""With fewer wrong answers, or right ones, an interval of equal halves is too narrow."""


@dataclass(frozen=True)
class MeanInterval:
    """A mean and what is known of it. All figures are in the unit of the scores.

    Args:
        mean: Mean over seeds and examples.
        low: Lower end of the interval.
        high: Upper end of the interval.
        standard_error: Of the mean.
        degrees_of_freedom: Of the t distribution that the interval's width comes from.
        seeds: How many seeds.
        examples: How many examples; 0 where only one value per seed is known.
        seed_share: Share of the squared standard error that further seeds would cut, 0 to 1. The interaction of seeds
            and examples counts here. None where it cannot be told apart (one seed, no examples, nothing varies).
        example_share: The rest: what only further test examples would cut.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float
    seeds: int
    examples: int
    seed_share: float | None
    example_share: float | None


def mean_interval(scores: NDArray[np.float64], level: float = 0.95, *, changes: bool = False) -> MeanInterval:
    """An interval for the mean over the population of seeds and of examples.

    It is mean ± t(f) · standard error, the standard error from the crossed layout (``crossed.py``) and
    f = 1 / (r / (S − 1) + (1 − r) / (n − 1)), r being the seeds' share of the squared standard error. Satterthwaite's
    f (Biometrics Bulletin 2, 1946) has the squares of the shares there; with three seeds it covers only 92 % in places,
    because r itself is estimated with two degrees of freedom. Cochran's weighting of the quantiles (Cochran and Cox,
    Experimental Designs, 1957, section 4.14) covers up to 97.3 %. This f lies between; it is from no paper and was
    chosen by simulation: ``benchmarks/statistics/coverage.md``.

    With two seeds it covers 91 to 96 %. With one seed the interval is over the examples only, as if the seed were the
    only one there is: **it is too narrow**, and by how much one seed cannot say. Zeros and ones give an interval
    inside 0 to 1. Where they are all the same, or of one seed, it is Wilson's for the number of examples: of shares
    near 0 or 1, Student's covers as little as 87 % with a hundred examples. With several seeds it is Wilson's for as
    many examples as the standard error is worth, where fewer than 15 are wrong, or right:
    ``benchmarks/statistics/few_errors.md``. Changes may have either sign, also where
    none of a sample is below 0: theirs is never cut at 0, and where all are the same −1, 0 or 1 it is that of
    ``means.py``.

    Args:
        scores: Seeds × examples: the metric's contribution of each example; every seed has the same examples.
        level: Coverage that is aimed at.
        changes: Whether each may lie below 0, as the difference of two scores of the same example does.

    Raises:
        ValueError: Fewer than two examples, or scores that are not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2:
        raise ValueError(f"Scores must be seeds × examples, not {scores.shape}.")
    parts = variance_of_mean(scores)
    seeds, examples = scores.shape
    mean, error = float(parts.mean), math.sqrt(float(parts.total))
    freedom = float(degrees_of_freedom(parts))
    half = float(half_width(parts, level))
    low, high = mean - half, mean + half
    if changes and error == 0 and mean in (-1, 0, 1) and np.isin(scores, (-1, 0, 1)).all():
        low, high = interval_of_same_changes(mean, examples, level)
    elif not changes and np.isin(scores, (0, 1)).all():
        low, high = max(0.0, low), min(1.0, high)
        if seeds == 1 or (error == 0 and mean in (0, 1)):
            low, high = wilson_interval(round(mean * examples), examples, level)
        elif error > 0 and min(mean, 1 - mean) * examples < FEW_ERRORS:
            low, high = wilson_interval_of_mean(mean, error**2, half / error)
    share = float(parts.seed_share) if seeds > 1 and error > 0 else None
    rest = None if share is None else 1 - share
    return MeanInterval(mean, low, high, error, freedom, seeds, examples, share, rest)


def seeds_interval(values: Sequence[float], level: float = 0.95) -> MeanInterval:
    """Student's t interval over the seeds, for metrics that have no contribution per example.

    It holds for further seeds on the *same* examples: what the choice of the examples adds is not in it (Student,
    Biometrika 6, 1908). Where all values are the same it has no width, and is no interval: see :func:`differ`.

    Args:
        values: The metric's value of each seed.
        level: Coverage that is aimed at.

    Raises:
        ValueError: Fewer than two seeds, or values that are not finite.
    """
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"An interval over seeds needs at least two of them, not {array.size}.")
    if not np.isfinite(array).all():
        raise ValueError("A value is not finite.")
    mean = float(array.mean())
    error = float(array.std(ddof=1)) / math.sqrt(len(array))
    half = float(stdtrit(len(array) - 1, (1 + level) / 2)) * error
    return MeanInterval(mean, mean - half, mean + half, error, len(array) - 1, len(array), 0, None, None)


def differ(values: Sequence[float]) -> bool:
    """Whether values differ by more than rounding. Where not, they do not say how far others would lie from them.

    Shares of a hundred examples are often the same for two seeds, which is no sign that further ones will be.

    Args:
        values: One for each seed.
    """
    array = np.asarray(values, dtype=np.float64)
    return len(array) > 1 and bool(np.ptp(array) > 1e-9 * np.abs(array).max())


def degrees_of_freedom(parts: VarianceOfMean) -> Floats:
    """Harmonic mean of the two parts' degrees of freedom, weighted by their shares: see ``mean_interval``."""
    if parts.seeds_freedom == 0:
        return np.full_like(parts.total, parts.examples_freedom)
    share = parts.seed_share
    return np.asarray(1 / (share / parts.seeds_freedom + (1 - share) / parts.examples_freedom))


def half_width(parts: VarianceOfMean, level: float) -> Floats:
    """Half the width of ``mean_interval``, for any number of tables of scores at once."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(degrees_of_freedom(parts), (1 + level) / 2) * np.sqrt(parts.total))
