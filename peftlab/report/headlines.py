"""A comparison in a sentence or two: what it came to, and where nothing is decided, what would decide it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from peftlab.report import wording
from peftlab.report.comparison import Comparison
from peftlab.report.report_tables import tied_with_best, untested_against_best

MOST_OF_IT = 2 / 3
"""A part that makes up so much of the uncertainty is worth more than the other one."""


def headline(comparison: Comparison) -> str:
    """A comparison in a sentence or two."""
    metric, best = comparison.metric, comparison.methods[0]
    score = wording.score(best.mean, metric)
    interval = best.interval
    if interval.low is not None:
        ends = f"{wording.score(interval.low, metric, unit=False)} to {wording.score(interval.high, metric)}"
        score += f" (95 % interval {ends})"
    if len(comparison.methods) == 1:
        return f"{best.label}: {metric} {score}. There is no other method to compare it with."
    if not comparison.pairs.tested:
        return (
            f"The best of {len(comparison.methods)} means is {best.label}'s: {metric} {score}. No test compares them."
        )
    tied = [method.label for method in tied_with_best(comparison)]
    untested = [method.label for method in untested_against_best(comparison)]
    number = len(comparison.methods) - len(untested)
    if number > 1:
        told = _of_tested(tied, number, metric, score)
        if len(tied) == number:
            told += f" {_what_would_tell(comparison)}"
    else:
        told = f"The best mean is {best.label}'s: {metric} {score}."
    return f"{told} No test compares {wording.listing(untested)} with {best.label}." if untested else told


def _of_tested(tied: Sequence[str], number: int, metric: str, score: str) -> str:
    """How the methods stand to the best that tests compare with it.

    Args:
        tied: Labels of the best and of those that are not told apart from it.
        number: Of all of them, the worse ones too.
        metric: That they are ranked by.
        score: Of the best.
    """
    if len(tied) == 1:
        return f"{tied[0]} is the best of {number} methods: {metric} {score}. Every other one is worse."
    if number == 2:
        return f"{tied[0]} and {tied[1]} cannot be told apart. The best mean {metric} is {tied[0]}'s, {score}."
    if len(tied) == number:
        return (
            f"No winner among {number} methods: the best mean {metric} is {tied[0]}'s, {score}, and no test shows that "
            "another method is worse."
        )
    others = wording.listing(tied[1:])
    worse = number - len(tied)
    return (
        f"{others} cannot be told apart from {tied[0]}, which has the best mean {metric}: {score}. "
        f"{'The other method is' if worse == 1 else f'The other {worse} methods are'} worse."
    )


def _what_would_tell(comparison: Comparison) -> str:
    """What a reader can do who wants to know more: by what the differences to the best are uncertain."""
    pairs = comparison.pairs
    shares = pairs.seed_share[0, 1:][np.isfinite(pairs.adjusted[0, 1:])]
    share = float(np.mean(shares)) if len(shares) and np.isfinite(shares).all() else 1.0  # else seeds alone were tested
    if share >= MOST_OF_IT:
        more = "more seeds"
    else:
        more = "more test examples" if share <= 1 - MOST_OF_IT else "more seeds and more test examples"
    return f"Choose by cost; {more} may tell them apart."
