"""Surges: hours whose counts are too high for the baseline, at a stated rate of false alarms.

Each hour has two tests, its own count and that of it with the hour before; the smaller tail probability is its score.
An alarm begins where the score falls below a threshold, and goes on as long as hours below it follow within
``QUIET`` hours. The threshold is the one at which drawn series begin as many alarms a month as was stated. They are
drawn twice: a history from the fitted baseline, and a baseline learned from that, is what the truth may be as well;
history and future are drawn from it, and watched by what is learned from *that* history. So what is not known of the
baseline is paid for (a double bootstrap: Beran, Biometrika 74, 1987).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.monitor.baseline import (
    WEEK,
    Baseline,
    Floats,
    Heard,
    fit_baseline,
    predict,
    tail,
)

QUIET = 6
"""Hours without a surge that end an alarm."""
MONTH = 365.25 / 12 * 24
"""Hours."""
MOST_ROWS = 2400
"""Drawn series that are computed together."""
LONGEST_HISTORY = 8 * WEEK
"""Hours that a baseline is learned from at most: the last ones."""


@dataclass(frozen=True)
class Detector:
    """A baseline and the threshold of each series' score."""

    baseline: Baseline
    threshold: Floats


def score(counts: Floats, first: int, baseline: Baseline, uniform: Floats, least: int = 0) -> Floats:
    """Scores of hours that follow the history; series × hours. The smaller, the more of a surge.

    Args:
        counts: Series × hours.
        first: Hour of the week of the first column.
        baseline: What is usual.
        uniform: Series × hours, uniform on 0 to 1: they break the ties that whole numbers make.
        least: An hour of fewer counts is no surge, however seldom it is: its score is 1.
    """
    forecast = predict(counts, first, baseline)
    alone = tail(counts, forecast.mean, forecast.dispersion, uniform)
    two = counts.copy()
    two[:, 1:] += counts[:, :-1]
    both = tail(two, forecast.mean_of_two, forecast.dispersion_of_two, uniform)
    return np.where(counts < least, 1.0, np.minimum(alone, both))


def begins(is_surge: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where alarms begin: a surge without another one in the ``QUIET`` hours before it. Series × hours."""
    recent = np.zeros(is_surge.shape, dtype=bool)
    for hours in range(1, QUIET + 1):
        recent[:, hours:] |= is_surge[:, :-hours]
    return np.asarray(is_surge & ~recent)


def calibrate(
    baseline: Baseline,
    history: int,
    first: int,
    alarms_a_month: Floats,
    *,
    smoothing: float,
    least: int,
    seed: int,
    weeks: int = 400,
    heard: Heard | None = None,
) -> Floats:
    """The threshold of each series.

    Args:
        baseline: The fitted one.
        history: Hours that it was fitted from.
        first: Hour of the week with which the history began.
        alarms_a_month: The stated rate of each series.
        smoothing: As it was fitted with.
        least: See :func:`score`.
        seed: Of the drawn series.
        weeks: So many are drawn of each series, each four after a history of its own.
        heard: As it was fitted with.
    """
    copies, watched = max(weeks // 4, 8), 4 * WEEK
    random = np.random.default_rng(seed)
    found = np.empty(len(baseline.level))
    together = max(MOST_ROWS // copies, 1)
    fit = functools.partial(fit_baseline, first=first, discount=baseline.discount, smoothing=smoothing, heard=heard)
    for start in range(0, len(found), together):
        chosen = range(start, min(start + together, len(found)))
        rows = np.repeat(chosen, copies)
        truths = fit(draw(baseline, rows, history, first, random))
        drawn = draw(truths, np.arange(len(rows)), history + watched, first, random)
        fitted = fit(drawn[:, :history])
        scores = score(drawn[:, history:], first + history, fitted, random.random((len(drawn), watched)), least)
        for row, at in enumerate(chosen):
            found[at] = _threshold(scores[row * copies : (row + 1) * copies], alarms_a_month[at])
    return found


def draw(baseline: Baseline, rows: NDArray[np.int64], hours: int, first: int, random: np.random.Generator) -> Floats:
    """Series × hours as the baseline has them, their levels staying where they are.

    Args:
        baseline: Of some series.
        rows: Which of them; one may come several times.
        hours: So many are drawn.
        first: Hour of the week of the first one.
        random: Draws.
    """
    mean = baseline.level[rows, None] * baseline.profile[rows][:, (first + np.arange(hours)) % WEEK]
    return counts_of(mean, baseline.excess[rows, None], random)


def counts_of(mean: Floats, excess: Floats | float, random: np.random.Generator) -> Floats:
    """Negative-binomial counts of this mean and of a variance that is 1 + ``excess`` times as much."""
    scale = np.maximum(excess, 1e-6)
    return random.poisson(random.gamma(mean / scale, scale)).astype(np.float64)


def fit_detector(
    counts: Floats,
    first: int,
    alarms_a_month: Floats,
    *,
    discount: float,
    smoothing: float,
    least: int,
    seed: int,
    weeks: int = 400,
    heard: Heard | None = None,
) -> Detector:
    """Learn what is usual of the last weeks, and from which score on an hour is a surge; see :func:`calibrate`."""
    start = max(counts.shape[1] - LONGEST_HISTORY, 0)
    counts, first = counts[:, start:], first + start
    heard = None if heard is None else heard[start:]
    baseline = fit_baseline(counts, first, discount=discount, smoothing=smoothing, heard=heard)
    threshold = calibrate(
        baseline, counts.shape[1], first, alarms_a_month, smoothing=smoothing, least=least, seed=seed, weeks=weeks,
        heard=heard,
    )  # fmt: skip
    return Detector(baseline, threshold)


def _threshold(scores: Floats, alarms_a_month: float) -> float:
    """By bisection of the logarithm; the number of beginnings rises with the threshold where it is small."""
    wanted = alarms_a_month * scores.size / MONTH
    low, high = np.log(1e-9), np.log(0.05)
    for _ in range(40):
        middle = (low + high) / 2
        if begins(scores < np.exp(middle)).sum() > wanted:
            high = middle
        else:
            low = middle
    return float(np.exp(low))
