"""Comparisons of methods on the same seeds and examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.crossed import Floats, VarianceOfMean, variance_of_mean

# Smaller ones are given as this: the quantiles behind them overflow.
SMALLEST_P = 1e-100


@dataclass(frozen=True)
class PairedComparison:
    """How far two methods are apart.

    Args:
        difference: Mean of the first minus mean of the second.
        low: Lower end of the difference's interval.
        high: Upper end of the difference's interval.
        p_value: Two-sided; at most 1 − level exactly where the interval leaves 0 out.
        seeds: How many seeds.
        examples: How many examples.
    """

    difference: float
    low: float
    high: float
    p_value: float
    seeds: int
    examples: int


def compare_paired(a: NDArray[np.float64], b: NDArray[np.float64], level: float = 0.95) -> PairedComparison:
    """Compare two methods on the same seeds and examples.

    The differences a − b are crossed scores themselves (``crossed.py``). Their mean over its standard error is held
    against Cochran's quantile: Student's t of the seeds' and of the examples' degrees of freedom, weighted by the
    two parts of the squared standard error (Cochran and Cox, Experimental Designs, 1957, section 4.14). It is on the
    safe side for every share of the seeds from three seeds on: ``benchmarks/statistics/coverage.md``. With two seeds
    false alarms can reach 6 %; with one seed the test is over the examples only and **finds too many differences**.

    Examples on which the methods never differ say nothing of which is better (McNemar, Psychometrika 12, 1947): the
    examples' degrees of freedom are the number of the others, less one. Where no seed changes any answer, the counts
    are so coarse that false alarms can reach 6.2 %, as McNemar's do (with fewer than 22 differing examples: at most
    5 %).

    Args:
        a: Seeds × examples, scores of the first method.
        b: The same of the second method; same seeds and examples in the same order.
        level: Coverage of the difference's interval.

    Raises:
        ValueError: The shapes differ, there are fewer than two examples, or scores are not finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"Both must be seeds × examples of the same seeds and examples, not {a.shape} and {b.shape}.")
    parts = variance_of_difference(a - b)
    seeds, examples = a.shape
    difference, error = float(parts.mean), math.sqrt(float(parts.total))
    half = float(difference_half_width(parts, level))
    p_value = _p_value(abs(difference), error, examples, parts)
    return PairedComparison(difference, difference - half, difference + half, p_value, seeds, examples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false alarm among them stays at the level they are held against.

    Holm, A simple sequentially rejective multiple test procedure (Scandinavian Journal of Statistics 6, 1979).

    Args:
        p_values: In any order.

    Returns:
        The adjusted p-values in the same order.

    Raises:
        ValueError: A p-value is not between 0 and 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("A p-value is not between 0 and 1.")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]


def variance_of_difference(differences: Floats) -> VarianceOfMean:
    """The crossed layout of … × seeds × examples differences, with the degrees of freedom of ``compare_paired``."""
    parts = variance_of_mean(differences)
    informative = np.count_nonzero(np.any(differences != 0, axis=-2), axis=-1)
    return replace(parts, examples_freedom=np.maximum(informative - 1, 1))


def difference_half_width(parts: VarianceOfMean, level: float) -> Floats:
    """Half the width of ``compare_paired``'s interval, for any number of pairs at once."""
    return np.asarray(_quantile(parts, 1 - level) * np.sqrt(parts.total))


def _quantile(parts: VarianceOfMean, p_value: float) -> Floats:
    """Cochran's weighted quantile of a two-sided test."""
    from scipy.special import stdtrit

    of_examples = -stdtrit(parts.examples_freedom, p_value / 2)
    if parts.seeds_freedom == 0:
        return np.asarray(of_examples)
    share = parts.seed_share
    return np.asarray(share * -stdtrit(parts.seeds_freedom, p_value / 2) + (1 - share) * of_examples)


def _p_value(difference: float, error: float, examples: int, parts: VarianceOfMean) -> float:
    """The level at which the quantile is exactly what was observed."""
    from scipy.optimize import brentq

    if difference == 0:
        return 1.0
    if error == 0:
        # Every example differs, and all alike: the sign test.
        return max(SMALLEST_P, 2.0 ** (1 - examples))
    observed = difference / error
    if observed >= _quantile(parts, SMALLEST_P):
        return SMALLEST_P

    def excess(log_p: float) -> float:
        return float(_quantile(parts, math.exp(log_p))) - observed

    return math.exp(brentq(excess, math.log(SMALLEST_P), 0.0))
