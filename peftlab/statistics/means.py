"""Intervals and one-sided tests of plain means: of independent values, such as one for each text or each name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.crossed import ROUNDING
from peftlab.statistics.proportions import wilson_interval

if TYPE_CHECKING:
    from peftlab.core.audit import Figure


@dataclass(frozen=True)
class Mean:
    """A mean with an interval, both in the unit of the values."""

    value: float
    low: float
    high: float
    n: int
    standard_error: float

    def figure(self, name: str, sentence: str, sampled: str = "texts", **others: Any) -> Figure:
        """The mean as an audit tells it; the other arguments of ``Figure`` by their names."""
        from peftlab.core.audit import Figure

        return Figure(name, self.value, self.n, sentence, sampled, self.low, self.high, **others)


def mean_with_interval(
    values: NDArray[np.float64], *, level: float = 0.95, looked_at: int = 1, changes: bool = False
) -> Mean:
    """The mean of independent values, with Student's interval, or Wilson's where all are 0 or 1.

    Changes may have either sign, also where none of a sample is below 0, which Wilson's interval would take for a
    fact: theirs is Student's. Where all are the same −1, 0 or 1, as where nothing has changed, it is Bonett and Price's
    (Journal of Educational and Behavioral Statistics 37, 2012), since Student's has no width then.

    Args:
        values: One for each unit that was sampled.
        level: Coverage of all intervals together.
        looked_at: How many intervals there are: each is wider (Bonferroni).
        changes: Whether each is the difference of two values of the same unit.

    Raises:
        ValueError: There are no values.
    """
    count = len(values)
    if not count:
        raise ValueError("a mean needs values")
    level = 1 - (1 - level) / max(looked_at, 1)
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    if changes and mean in (-1, 0, 1) and not values.std():
        return Mean(mean, *interval_of_same_changes(mean, count, level), count, error)
    if not changes and np.isin(values, (0, 1)).all():
        return Mean(mean, *wilson_interval(float(values.sum()), count, level), count, error)
    half = _students_half(error, count, level)
    return Mean(mean, mean - half, mean + half, count, error)


def mean_of_clusters(values: NDArray[np.float64], clusters: Sequence[str]) -> Mean:
    """The mean of values of which some belong together, such as all of one user, and may be alike.

    The interval is Student's over the clusters (Liang and Zeger, Biometrika 73, 1986): where each has one value it is
    that of :func:`mean_with_interval`.

    Args:
        values: One for each unit.
        clusters: To which each belongs.

    Raises:
        ValueError: There are no values.
    """
    names, place = np.unique(np.asarray(clusters), return_inverse=True)
    count, mean = len(names), float(values.mean()) if len(values) else 0.0
    if count == len(values):
        return mean_with_interval(values)
    sums = np.bincount(place, values - mean)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values) if count > 1 else math.inf
    if mean in (0, 1) and not values.std():  # as if each cluster were one value
        return Mean(mean, *wilson_interval(mean * count, count), len(values), error)
    half = _students_half(error, count)
    return Mean(mean, mean - half, mean + half, len(values), error)


def _students_half(error: float, count: int, level: float = 0.95) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, (1 + level) / 2)) * error if count > 1 else math.inf


def interval_of_same_changes(change: float, count: int, level: float) -> tuple[float, float]:
    """Bonett and Price's interval of a mean of changes that are all the same −1, 0 or 1.

    Args:
        change: Of each.
        count: How many.
        level: Coverage that is aimed at.
    """
    from scipy.special import ndtri

    more = count + 2
    up, down = (((count if change == sign else 0) + 1) / more for sign in (1, -1))
    half = float(ndtri((1 + level) / 2)) * math.sqrt((up + down - (up - down) ** 2) / more)
    return max(up - down - half, -1.0), min(up - down + half, 1.0)


def exceeds(values: NDArray[np.float64], limit: float, *, changes: bool = False) -> float:
    """One-sided p-value that the mean of independent values is not above a limit.

    Student's test; the exact binomial one where all values are 0 or 1, no changes, and the limit lies between. Values
    that are all the same have no spread: theirs is the sign test.
    """
    from scipy.special import stdtr
    from scipy.stats import binom

    count = len(values)
    if count < 2:
        return 1.0
    if not changes and 0 < limit < 1 and np.isin(values, (0, 1)).all():
        return float(binom.sf(values.sum() - 1, count, limit))
    difference = float(values.mean()) - limit
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        return 0.5**count if difference > ROUNDING * abs(limit) else 1.0
    error = float(values.std(ddof=1)) / math.sqrt(count)
    return float(stdtr(count - 1, -difference / error))
