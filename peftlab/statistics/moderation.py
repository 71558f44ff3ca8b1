"""What the seeds of other methods say of a method's own spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.crossed import Floats

# With fewer methods their spreads say too little of how much spreads differ.
FEWEST_METHODS = 4
# Degrees of freedom where one seed says nothing of the seeds' part, so that it counts as known, and as zero.
KNOWN = 1e6


@dataclass(frozen=True)
class Moderated:
    """Variances of all methods.

    Args:
        variance: Of the seeds of each method.
        freedom: Its degrees of freedom.
        borrowed: Whether other methods' seeds count in them.
        stated: Which are no estimates, but what a prior says; None: none.
    """

    variance: Floats
    freedom: Floats
    borrowed: bool
    stated: NDArray[np.bool_] | None = None

    def with_stated(self, which: NDArray[np.bool_], variance: float, freedom: float) -> Moderated:
        """Take a stated variance for some, unless the others' seeds say that it is greater.

        Args:
            which: The methods that have one seed.
            variance: What is stated.
            freedom: Its degrees of freedom.
        """
        return Moderated(
            np.where(which, np.maximum(self.variance, variance), self.variance),
            np.where(which, np.minimum(self.freedom, freedom), self.freedom),
            self.borrowed,
            which,
        )

    def freedom_of_sums(self, first: NDArray[np.intp], second: NDArray[np.intp], shares: Floats) -> Floats:
        """Degrees of freedom of the sums of two variances each.

        Of independent variances Satterthwaite's (Biometrics Bulletin 2, 1946), as in Welch's t test. Moderated ones
        share what they borrowed, and stated ones the prior, so they get no more than one of them has.

        Args:
            first: Which variance comes first in each sum.
            second: Which comes second.
            shares: What each variance counts in a sum.
        """
        if self.borrowed:
            return np.minimum(self.freedom[first], self.freedom[second])
        a, b = (self.variance * shares)[first], (self.variance * shares)[second]
        squares = a**2 / self.freedom[first] + b**2 / self.freedom[second]
        freedom = np.divide((a + b) ** 2, squares, out=np.full_like(a, KNOWN), where=squares > 0)
        if self.stated is None:
            return freedom
        both = self.stated[first] & self.stated[second]
        return np.where(both, np.minimum(self.freedom[first], self.freedom[second]), freedom)


def moderate(mean_squares: Floats, freedom: NDArray[np.int64]) -> Moderated:
    """Moderate variances that are estimated from a few seeds each by those of all methods together.

    Empirical Bayes (Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004, sections 3 and 6.2): the
    true variances are taken as scaled inverse chi-squared with d0 degrees of freedom around s0², both fitted to the
    mean and the variance of the logarithms. The moderated variance is (d0·s0² + d·s²) / (d0 + d) with d0 + d degrees of
    freedom, never more than all methods have together.

    The moderated variance is never taken below the method's own: a method that is much noisier than the others would
    else seem steadier than it is, and its pairs would be false alarms too often. This guard is from no paper and was
    chosen by simulation: ``benchmarks/statistics/all_pairs.md``. With fewer than four methods nothing is borrowed.

    Args:
        mean_squares: Of each method's seeds.
        freedom: Degrees of freedom of each: seeds − 1. A method with 0 gets s0², or no variance if nothing is borrowed.
    """
    from scipy.special import digamma

    # A spread of exactly zero has no logarithm: seeds that change nothing do not speak for the others.
    telling = (freedom > 0) & (mean_squares > 0)
    if np.count_nonzero(telling) < FEWEST_METHODS:
        return Moderated(mean_squares, np.where(freedom > 0, freedom, KNOWN).astype(np.float64), borrowed=False)
    own, half = mean_squares[telling], freedom[telling] / 2
    logs = np.log(own) - digamma(half) + np.log(half)
    excess = _excess_variance(logs, half)
    if excess > 0:
        prior_freedom = 2 * _trigamma_inverse(excess)
        prior = math.exp(logs.mean() + digamma(prior_freedom / 2) - math.log(prior_freedom / 2))
        moderated = (prior_freedom * prior + freedom * mean_squares) / (prior_freedom + freedom)
    else:
        prior_freedom = math.inf
        moderated = np.full(len(mean_squares), np.average(own, weights=half))
    total = float(freedom.sum())
    return Moderated(np.maximum(moderated, mean_squares), np.minimum(prior_freedom + freedom, total), borrowed=True)


def _excess_variance(logs: Floats, half_freedom: Floats) -> float:
    """By how much the logarithms vary beyond what their degrees of freedom explain."""
    from scipy.special import polygamma

    return float(logs.var(ddof=1) - polygamma(1, half_freedom).mean())


def _trigamma_inverse(value: float) -> float:
    """Newton's method on 1 / trigamma, which is convex: Smyth 2004, appendix."""
    from scipy.special import polygamma

    if value > 1e7:
        return 1 / math.sqrt(value)
    if value < 1e-6:
        return 1 / value
    found = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, found))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, found))
        found += step
        if abs(step) < 1e-9 * found:
            break
    return found
