"""Surges: hours whose counts are too high for the baseline, at a stated rate of false alarms.

Each hour has two tests, its own count and that of it with the hour before; the smaller tail probability is its score.
An alarm begins where the score falls below a threshold, and goes on as long as hours below it follow within
``QUIET`` hours. The threshold is the one at which series drawn from the fitted baseline, *each fitted anew from a
drawn history*, begin as many alarms a month as was stated: so what is not known of the baseline is paid for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.monitor.baseline import (
    WEEK,
    Baseline,
    Floats,
    fit_baseline,
    predict,
    tail,
)

QUIET = 6
"""Hours without a surge that end an alarm."""
MONTH = 365.25 / 12 * 24
"""Hours."""
MOST_ROWS = 600
"""Drawn series that are computed together."""
LONGEST_HISTORY = 8 * WEEK
"""Hours that a baseline is learned from at most: the last ones."""


@dataclass(frozen=True)
class Detector:
    """A baseline and the threshold of each series' score."""

    baseline: Baseline
    threshold: Floats


def score(counts: Floats, first: int, baseline: Baseline, uniform: Floats) -> Floats:
    """Scores of hours that follow the history; series × hours. The smaller, the more of a surge.

    Args:
        counts: Series × hours.
        first: Hour of the week of the first column.
        baseline: What is usual.
        uniform: Series × hours, uniform on 0 to 1: they break the ties that whole numbers make.
    """
    forecast = predict(counts, first, baseline)
    alone = tail(counts, forecast.mean, forecast.dispersion, uniform)
    two = counts.copy()
    two[:, 1:] += counts[:, :-1]
    both = tail(two, forecast.mean_of_two, forecast.dispersion_of_two, uniform)
    return np.asarray(np.minimum(alone, both))


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
    seed: int,
    weeks: int = 400,
) -> Floats:
    """The threshold of each series.

    Args:
        baseline: The fitted one, which stands for the truth.
        history: Hours that it was fitted from.
        first: Hour of the week with which the history began.
        alarms_a_month: The stated rate of each series.
        smoothing: As it was fitted with.
        seed: Of the drawn series.
        weeks: So many are drawn of each series, each four after a history of its own.
    """
    copies, watched = max(weeks // 4, 8), 4 * WEEK
    random = np.random.default_rng(seed)
    found = np.empty(len(baseline.level))
    together = max(MOST_ROWS // copies, 1)
    for start in range(0, len(found), together):
        chosen = range(start, min(start + together, len(found)))
        drawn = np.concatenate([draw(baseline, at, copies, history + watched, first, random) for at in chosen])
        fitted = fit_baseline(drawn[:, :history], first, discount=baseline.discount, smoothing=smoothing)
        scores = score(drawn[:, history:], first + history, fitted, random.random((len(drawn), watched)))
        for row, at in enumerate(chosen):
            found[at] = _threshold(scores[row * copies : (row + 1) * copies], alarms_a_month[at])
    return found


def draw(baseline: Baseline, at: int, copies: int, hours: int, first: int, random: np.random.Generator) -> Floats:
    """Copies × hours of one series as the baseline has it, its level staying where it is."""
    mean = baseline.level[at] * baseline.profile[at, (first + np.arange(hours)) % WEEK]
    phi = max(float(baseline.dispersion[at]), 1e-6)
    rates = random.gamma(1 / phi, mean * phi, (copies, hours))
    return random.poisson(rates).astype(np.float64)


def fit_detector(
    counts: Floats, first: int, alarms_a_month: Floats, *, discount: float, smoothing: float, seed: int
) -> Detector:
    """Learn what is usual of the last weeks, and from which score on an hour is a surge."""
    start = max(counts.shape[1] - LONGEST_HISTORY, 0)
    counts, first = counts[:, start:], first + start
    baseline = fit_baseline(counts, first, discount=discount, smoothing=smoothing)
    return Detector(
        baseline, calibrate(baseline, counts.shape[1], first, alarms_a_month, smoothing=smoothing, seed=seed)
    )


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
