"""Two groups of names, or pairs of answers, compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.means import exceeds


@dataclass(frozen=True)
class Comparison:
    """The difference of two groups' means, with an interval and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def compare_groups(one: NDArray[np.float64], other: NDArray[np.float64], *, looked_at: int = 1) -> Comparison:
    """Welch's test of independent values (Biometrika 34, 1947), such as one for each name.

    Args:
        one: At least two values.
        other: At least two values.
        looked_at: How many comparisons there are: the interval is wider (Bonferroni).
    """
    difference = float(one.mean() - other.mean())
    if one.std() + other.std() < 1e-12:
        # Nothing varies: so far apart are that many values by chance in one of all ways to part them, and its reverse.
        p_value = 1.0 if abs(difference) < 1e-9 else 2 / math.comb(len(one) + len(other), len(one))
        return Comparison(difference, difference, difference, min(p_value, 1.0))
    from scipy.stats import ttest_ind

    found = ttest_ind(one, other, equal_var=False)
    interval = found.confidence_interval(1 - 0.05 / looked_at)
    return Comparison(difference, float(interval.low), float(interval.high), float(found.pvalue))


def two_sided(values: NDArray[np.float64]) -> float:
    """Two-sided p-value that the mean of independent values is 0 (Student's test)."""
    return min(1.0, 2 * min(exceeds(values, 0.0), exceeds(-values, 0.0)))
