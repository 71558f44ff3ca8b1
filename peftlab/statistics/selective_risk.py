"""How sure an answer must be so that a stated share of the answers is wrong at most."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STARTS = (0.125, 0.25, 0.5, 0.75)
"""Shares of the rows at which the search begins: chosen before anything is seen."""


@dataclass(frozen=True)
class Bound:
    """From which confidence on answers are given.

    Args:
        threshold: The least confidence; infinite: no answer is sure enough.
        answered: Rows above it.
        wrong: Of them.
        upper: The upper bound of the share that is wrong, at the level of each test.
        rows: All.
    """

    threshold: float
    answered: int
    wrong: int
    upper: float
    rows: int


def upper_bound(wrong: int, rows: int, level: float) -> float:
    """The one-sided bound of Clopper and Pearson (Biometrika 26, 1934) of a share of which a sample is known."""
    from scipy.stats import beta

    return 1.0 if wrong >= rows else float(beta.ppf(level, wrong + 1, rows - wrong))


def rows_needed(rate: float, level: float) -> int:
    """So many answers without a fault are needed before a rate can be stated."""
    return math.ceil(math.log((1 - level) / len(STARTS)) / math.log(1 - rate))


def choose_bound(confidences: NDArray[np.float64], wrong: NDArray[np.bool_], rate: float, level: float = 0.95) -> Bound:
    """The lowest threshold above which the share of wrong answers is at most a rate, with a given certainty.

    Thresholds are tested from high to low, from several starts, each until the first that fails (fixed-sequence
    testing: Angelopoulos et al., Learn then Test, 2021; the starts share the level among them by Bonferroni). So the
    chance is at most ``1 - level`` that the threshold that is given has a larger share of wrong answers.

    Args:
        confidences: Of each row's answer (rows).
        wrong: Whether it is wrong (rows).
        rate: The share that is allowed.
        level: How sure the bound is to hold.
    """
    from scipy.special import bdtr

    order = np.argsort(-confidences, kind="stable")
    sure, faults = confidences[order], np.cumsum(wrong[order])
    rows = len(sure)
    # Rows that are equally sure are answered together.
    ends = [at for at in range(rows) if at + 1 == rows or sure[at + 1] < sure[at]]
    own = 1 - (1 - level) / len(STARTS)
    # The bound is at most the rate where so few faults, or fewer, would be as unlikely as that at this very rate.
    counts = np.array(ends, dtype=np.int64) + 1
    passes = bdtr(faults[counts - 1], counts, rate) <= 1 - own
    last = 0
    for start in STARTS:
        begun = np.flatnonzero(counts >= max(start * rows, rows_needed(rate, level)))
        failed = begun[~passes[begun]]
        passed = begun if not len(failed) else begun[begun < failed[0]]
        if len(passed):
            last = max(last, int(counts[passed[-1]]))
    if not last:
        return Bound(math.inf, 0, 0, 1.0, rows)
    count = int(faults[last - 1])
    return Bound(float(sure[last - 1]), last, count, upper_bound(count, last, own), rows)
