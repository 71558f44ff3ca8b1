"""What is taken for granted of the seeds' spread where a method was run with one seed alone."""

from __future__ import annotations

from dataclasses import dataclass

PRIOR_FREEDOM = 4.0


@dataclass(frozen=True)
class SeedPrior:
    """A stated spread of the seeds: scaled inverse chi-squared around ``deviation``², with few degrees of freedom.

    One seed says nothing of what another one would change. Tested on the examples alone, equal methods seem to differ
    much too often: of twelve whose seeds lie one point apart (standard deviation), some pair does in 81 % of
    comparisons, after Holm's correction (``benchmarks/statistics/one_seed.md``). What other methods' seeds say does not
    help enough: where every other one is noisy, it is 54 %. So a spread is stated: **one point, with four degrees of
    freedom**. Of the methods in this project's suites that accuracy ranks, seeds lie 0.2 to 1.5 points apart, in the
    middle 0.7.

    Then equal methods seem to differ in at most 6 % of comparisons while seeds lie up to one point apart. Where all lie
    two points apart it is 15 % of comparisons of two methods, 9 % of four, 0 % of twelve; where the one of two that has
    one seed is the noisy one, 17 %. A method whose training collapses with some seeds (14 points apart, seen once) is
    in no such prior: only more seeds show that. What it costs: on 2,000 examples a difference counts from about 4
    points on among two methods, 7 among four and 13 among twelve. To draw no letters at all would find none of these; a
    prior that holds at two points too (two points, four degrees of freedom) finds 0 to 12 % of the differences of 10
    points.

    Args:
        deviation: Of the mean of one seed from that of another, in the unit of the scores.
        freedom: How firmly that is known.
    """

    deviation: float
    freedom: float = PRIOR_FREEDOM
