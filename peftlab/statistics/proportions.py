"""Shares of which only the counts are known: intervals, and comparisons of two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DifferenceOfProportions:
    """The first share minus the second, with an interval and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def wilson_interval(successes: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Journal of the American Statistical Association 22, 1927).

    It covers the choice of the examples only: what another seed would change is not in it.

    Args:
        successes: How many examples were right; accuracy times ``trials``, which rounding may have made uneven.
        trials: How many examples there were.
        level: Coverage that is aimed at.

    Returns:
        Lower and upper end, 0 to 1.

    Raises:
        ValueError: There are no trials, or the successes are not between 0 and their number.
    """
    from scipy.special import ndtri

    _check(successes, trials)
    quantile = float(ndtri((1 + level) / 2))
    share = successes / trials
    scale = 1 + quantile**2 / trials
    centre = (share + quantile**2 / (2 * trials)) / scale
    half = quantile * math.sqrt(share * (1 - share) / trials + (quantile / (2 * trials)) ** 2) / scale
    # At 0 and 1 the ends are exact; rounding must not move them past.
    return (0.0 if share == 0 else centre - half), (1.0 if share == 1 else centre + half)


def wilson_interval_of_mean(share: float, variance: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval of a share that is no plain count: with the trials that its variance is worth.

    These are share · (1 − share) / variance, and the quantile is Student's (Franco et al., Journal of Survey Statistics
    and Methodology 7, 2019).

    Args:
        share: Estimated, between 0 and 1 and neither of them.
        variance: Of the estimate.
        quantile: Of the two-sided interval.
    """
    squared = quantile**2 * variance
    scaled = squared / (share * (1 - share))
    half = math.sqrt(squared + scaled**2 / 4)
    return (share + scaled / 2 - half) / (1 + scaled), (share + scaled / 2 + half) / (1 + scaled)


def compare_proportions(successes_a: float, successes_b: float, trials: int) -> float:
    """Two-sided p-value that two methods are right equally often, each on ``trials`` examples.

    The "N − 1" chi-squared test of two independent proportions (Campbell, Statistics in Medicine 26, 2007). Where both
    methods answered the same examples, their right answers go together and the test is too careful: it finds fewer
    differences than a paired test, which needs the answers themselves.

    Args:
        successes_a: How many examples method A had right.
        successes_b: How many examples method B had right.
        trials: How many examples each answered.

    Raises:
        ValueError: There are no trials, or successes are not between 0 and their number.
    """
    from scipy.special import ndtr

    variance = variance_of_proportions(successes_a, successes_b, trials)
    if variance == 0:
        return 1.0
    return float(2 * ndtr(-abs(successes_a - successes_b) / trials / math.sqrt(variance)))


def difference_of_proportions(
    successes_a: int, trials_a: int, successes_b: int, trials_b: int, level: float = 0.95
) -> DifferenceOfProportions:
    """Compare the shares of two samples of independent examples.

    Newcombe's interval from Wilson's two (method 10 in Statistics in Medicine 17, 1998), and Fisher's exact test.

    Raises:
        ValueError: There are no trials, or successes are not between 0 and their number.
    """
    from scipy.stats import fisher_exact

    one, other = successes_a / max(trials_a, 1), successes_b / max(trials_b, 1)
    low_a, high_a = wilson_interval(successes_a, trials_a, level)
    low_b, high_b = wilson_interval(successes_b, trials_b, level)
    difference = one - other
    table = [[successes_a, trials_a - successes_a], [successes_b, trials_b - successes_b]]
    return DifferenceOfProportions(
        difference,
        difference - math.hypot(one - low_a, high_b - other),
        difference + math.hypot(high_a - one, other - low_b),
        float(fisher_exact(table).pvalue),
    )


def variance_of_proportions(successes_a: float, successes_b: float, trials: int) -> float:
    """Of the difference of two shares, were they equal: what the "N − 1" test of ``compare_proportions`` stands on.

    Raises:
        ValueError: There are no trials, or successes are not between 0 and their number.
    """
    _check(successes_a, trials)
    _check(successes_b, trials)
    together = (successes_a + successes_b) / (2 * trials)
    return together * (1 - together) * 2 / trials * (2 * trials) / (2 * trials - 1)


def _check(successes: float, trials: int) -> None:
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials: there must be trials, and no more successes.")
