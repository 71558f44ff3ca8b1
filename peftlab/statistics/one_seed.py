"""What is taken for granted of the seeds' spread where a method was run with one seed alone."""

from __future__ import annotations

from dataclasses import dataclass

PRIOR_FREEDOM = 4.0


@dataclass(frozen=True)
class SeedPrior:
    """A stated spread of the seeds: scaled inverse chi-squared around ``deviation``², with few degrees of freedom.

    One seed says nothing of what another one would change. Tested on the examples alone, equal methods seem to differ
    much too often: of twelve whose seeds are one point apart (standard deviation), some pair does in 73 to 81 % of
    comparisons, after Holm's correction (``benchmarks/statistics/one_seed.md``). So the spread is stated: **one point,
    with four degrees of freedom**, which leaves room for two points and more. Of the methods in this project's suites
    that are scored by accuracy, seeds lie 0.2 to 1.5 points apart, in the middle 0.75.

    With it, equal methods seem to differ in at most 5 % of comparisons while their seeds are up to one point apart; at
    two points in up to @@ %. What it costs: among two methods 5 points are found, among four 10, among twelve about 15.
    A wider prior that holds at two points as well finds @@ of the differences of 10 points. A method whose training
    collapses with some seeds (14 points apart, seen once) is in no such prior: nothing but more seeds shows that.

    Args:
        deviation: Of the mean of one seed from that of another, in the unit of the scores.
        freedom: How firmly that is known.
    """

    deviation: float
    freedom: float = PRIOR_FREEDOM
