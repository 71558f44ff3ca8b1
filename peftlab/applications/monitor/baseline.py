"""What is usual: a seasonal negative-binomial baseline of hourly counts, for many series at once.

The count of an hour is negative binomial: mean μ = level · profile(hour of the week), variance (1 + c) μ, the kind
called NB1 (Cameron and Trivedi, Journal of Applied Econometrics 1, 1986). The excess c is the same for busy and for
quiet hours, and for the sum of several.

The level drifts. What is known of it is a gamma distribution whose shape and rate are discounted each hour. This is the
conjugate "power steady" model (Smith, Journal of the Royal Statistical Society B 41, 1979; West and Harrison, Bayesian
Forecasting and Dynamic Models, 1997, section 10.8). So the next count is predicted by a negative binomial again, of
dispersion c / μ + 1 / shape: an uncertain level makes large counts less surprising.

Arrays are series × hours. The hour of the week counts from Monday, 0:00. Of an hour that was not *heard*, as while
what brings the texts stood still, nothing is known: its count of nought says nothing of profile, excess and level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaln

Floats = NDArray[np.float64]
Heard = NDArray[np.bool_]
DAY, WEEK = 24, 168
LEAST_LEVEL = 0.02
"""Counts an hour. Below it one text would be a surge."""
MOST_FACTOR = 3.0
"""An hour counts for the level at most so many times its expected count: a surge must not become the usual."""
PRIOR_WEEKS = 2.0
"""The profile of a day weighs as much as so many weeks against the profile of the week."""
MOST_FOLDS = 5
SMOOTH_DAYS = 20.0
"""The smoothed course of a day weighs as much as so many days of the course as it was counted."""
EXCESSES = np.geomspace(1e-2, 40.0, 13)
FINE = 9


@dataclass(frozen=True)
class Baseline:
    """The usual course of series.

    Args:
        profile: Series × 168: the expected share of the level, 1 on average.
        excess: c of each series: variance over mean, less one.
        level: Counts an hour at the end of the history, for each series.
        discount: What is known of the level is kept by this share each hour, 0 to 1.
    """

    profile: Floats
    excess: Floats
    level: Floats
    discount: float


@dataclass(frozen=True)
class Forecast:
    """Before each hour: what is expected of it, and of it together with the hour before. Each is series × hours.

    Args:
        mean: Of the hour.
        dispersion: φ of the hour's negative binomial, whose variance is mean + φ · mean².
        mean_of_two: Of the two hours, seen from before both; in the first hour that of the hour alone.
        dispersion_of_two: Of their sum's.
    """

    mean: Floats
    dispersion: Floats
    mean_of_two: Floats
    dispersion_of_two: Floats


def fit_baseline(
    counts: Floats, first: int, *, discount: float, smoothing: float = 4.0, heard: Heard | None = None
) -> Baseline:
    """Learn profile, excess and level.

    Args:
        counts: Series × hours, one day at least.
        first: Hour of the week of the first column.
        discount: See :class:`Baseline`.
        smoothing: Standard deviation of the profile's circular kernel, in hours.
        heard: Whether each hour was heard; some of the first day must have been. None: all were.
    """
    heard = np.ones(counts.shape[1], dtype=bool) if heard is None else heard
    profile = _profile(counts, first, smoothing, heard)
    draft = Baseline(profile, np.zeros(len(counts)), _start_level(counts, first, profile, heard), discount)
    excess = _excess(counts, first, smoothing, draft, heard)
    fitted = Baseline(profile, excess, draft.level, discount)
    return Baseline(profile, excess, final_level(counts, first, fitted, heard), discount)


def _excess(counts: Floats, first: int, smoothing: float, draft: Baseline, heard: Heard) -> Floats:
    """By days that the profile was not learned from: what it has wrong counts as spread too."""
    hours = counts.shape[1]
    folds = min(max(hours // DAY, 1), MOST_FOLDS)
    fold = np.arange(hours) // DAY % folds
    means = _filter(counts, first, draft, heard)[0].mean
    if folds > 1:
        # One pass over the hours for all folds: each is a series of its own.
        profiles = np.concatenate(
            [_profile(counts, first, smoothing, heard, fold != left_out) for left_out in range(folds)]
        )
        excess, level = np.tile(draft.excess, folds), np.tile(draft.level, folds)
        several = Baseline(profiles, excess, level, draft.discount)
        stacked = _filter(np.tile(counts, (folds, 1)), first, several, heard)[0].mean
        means = stacked.reshape(folds, *counts.shape)[fold, :, np.arange(hours)].T
    used = heard & (np.arange(hours) >= min(DAY, hours // 2))
    return fit_excess(counts[:, used], means[:, used])


def predict(counts: Floats, first: int, baseline: Baseline) -> Forecast:
    """What was expected of each hour, knowing only the hours before it.

    Args:
        counts: Series × hours that follow the baseline's history.
        first: Hour of the week of the first column.
        baseline: From :func:`fit_baseline`.
    """
    return _filter(counts, first, baseline)[0]


def final_level(counts: Floats, first: int, baseline: Baseline, heard: Heard | None) -> Floats:
    """The level after the last hour."""
    return _filter(counts, first, baseline, heard)[1]


def fit_excess(counts: Floats, means: Floats) -> Floats:
    """The excess of each series by maximum likelihood: over a grid, then over a finer one around its best."""
    grid = np.broadcast_to(EXCESSES[:, None], (len(EXCESSES), len(counts)))
    for _ in range(2):
        totals = [_likelihood_of_excess(counts, means, row[:, None]) for row in grid]
        best = np.asarray(grid[np.argmax(totals, axis=0), np.arange(len(counts))])
        step = EXCESSES[1] / EXCESSES[0]
        grid = best * np.geomspace(1 / step, step, FINE)[:, None]
    return best


def _likelihood_of_excess(counts: Floats, means: Floats, excess: Floats) -> Floats:
    """Of each series the log-likelihood of its counts, without what is the same for every excess."""
    size = means / excess
    hours = gammaln(counts + size) - gammaln(size) - (counts + size) * np.log1p(excess) + counts * np.log(excess)
    return np.asarray(hours.sum(1))


def tail(counts: Floats, means: Floats, dispersion: Floats, uniform: Floats) -> Floats:
    """How seldom a count so high is, 0 to 1: P(Y > y) + u · P(Y = y).

    With u uniform it is uniform too where the baseline is right, although counts are whole numbers; so a threshold
    gives exactly the rate that is wanted.
    """
    size = 1 / np.maximum(dispersion, 1e-9)
    share = means / (size + means)
    above = betainc(counts + 1, size, share)
    at_least = np.where(counts > 0, betainc(np.maximum(counts, 1), size, share), 1.0)
    return np.asarray(above + uniform * (at_least - above))


def _filter(counts: Floats, first: int, baseline: Baseline, heard: Heard | None = None) -> tuple[Forecast, Floats]:
    series, hours = counts.shape
    told = np.ones(hours) if heard is None else heard.astype(np.float64)
    season = baseline.profile[:, (first + np.arange(hours)) % WEEK]
    keep, excess = baseline.discount, baseline.excess
    rate = np.full(series, 1 / (1 - keep)) * 0.5  # half of what the level is known by after a long time
    shape = baseline.level * rate + 0.5
    means, spreads, twos, spreads_of_two = (np.empty((series, hours)) for _ in range(4))
    before_level, before_shape = shape / rate, shape
    weight = 1 / (1 + excess)  # an hour tells of the level as much as its overdispersed count does: quasi-Poisson
    for hour in range(hours):
        level = np.maximum(shape / rate, LEAST_LEVEL)
        here = season[:, hour]
        means[:, hour] = mean = np.maximum(level * here, 1e-6)
        spreads[:, hour] = excess / mean + 1 / shape
        if hour:
            parts = before_level[:, None] * season[:, hour - 1 : hour + 1]
            two = np.maximum(parts.sum(1), 1e-6)
            twos[:, hour] = two
            spreads_of_two[:, hour] = excess / two + 1 / before_shape
        else:
            twos[:, 0], spreads_of_two[:, 0] = mean, spreads[:, 0]
        before_level, before_shape = level, shape
        seen = np.minimum(counts[:, hour], MOST_FACTOR * mean + 3)
        shape = keep * shape + told[hour] * weight * seen + 1e-3
        rate = keep * rate + told[hour] * weight * here + 1e-3 / level
    return Forecast(means, spreads, twos, spreads_of_two), np.maximum(shape / rate, LEAST_LEVEL)


def _start_level(counts: Floats, first: int, profile: Floats, heard: Heard) -> Floats:
    """Of the first day."""
    at = np.flatnonzero(heard[:DAY])
    season = profile[:, (first + at) % WEEK]
    return np.asarray(np.maximum(counts[:, at].sum(1) / np.maximum(season.sum(1), 1e-9), LEAST_LEVEL))


def _profile(counts: Floats, first: int, smoothing: float, known: Heard, used: Heard | None = None) -> Floats:
    """From the hours that were heard; where it is given, from those of them that are used."""
    hours = counts.shape[1]
    place = (first + np.arange(hours)) % WEEK
    heard = (known if used is None else known & used).astype(np.float64)
    # From two weeks on the mean of a week leaves it to the profile how days of the week differ.
    level = np.maximum(_means_around(counts, known, WEEK if hours >= 2 * WEEK else DAY), LEAST_LEVEL)
    daily = np.stack([_ratio(counts, level, (heard > 0) & (place % DAY == hour)) for hour in range(DAY)], axis=1)
    days = heard.sum() / DAY
    share = days / (days + SMOOTH_DAYS)
    daily = share * daily + (1 - share) * _smooth(daily, smoothing)
    # The hours of one day of the week are few, so those beside them are heard too.
    usual = level * daily[:, place % DAY] * heard
    found, wanted, seen = (
        _smooth(_by_hour_of_week(each, first), smoothing) for each in (counts * heard, usual, heard[None])
    )
    weight = seen / (seen + PRIOR_WEEKS)
    differs = (found + 0.05) / (wanted + 0.05)
    weekly = np.maximum(np.tile(daily, WEEK // DAY) * (weight * differs + 1 - weight), 0.02)
    return np.asarray(weekly / weekly.mean(1, keepdims=True))


def _by_hour_of_week(values: Floats, first: int) -> Floats:
    """Sums over the weeks; series × 168."""
    before = first % WEEK
    padded = np.pad(values, ((0, 0), (before, -(before + values.shape[1]) % WEEK)))
    return np.asarray(padded.reshape(len(values), -1, WEEK).sum(1))


def _means_around(counts: Floats, known: Heard, width: int) -> Floats:
    """For each hour the mean count of so many hours around it; at the ends of the first and the last so many."""
    hours = counts.shape[1]
    width = min(width, hours)
    start = np.clip(np.arange(hours) - width // 2, 0, hours - width)
    heard = known.astype(np.float64)[None]
    totals = [np.cumsum(np.pad(each, ((0, 0), (1, 0))), axis=1) for each in (counts * heard, heard)]
    found, of = (each[:, start + width] - each[:, start] for each in totals)
    return np.asarray(found / np.maximum(of, 1))


def _ratio(counts: Floats, level: Floats, chosen: NDArray[np.bool_]) -> Floats:
    return np.asarray((counts[:, chosen].sum(1) + 0.05) / (level[:, chosen].sum(1) + 0.05))


def _smooth(values: Floats, width: float) -> Floats:
    """Series × hours of a circle, each hour the mean of those around it by a normal kernel."""
    if width < 0.1:
        return values
    hours = values.shape[1]
    away = np.minimum(np.arange(hours), hours - np.arange(hours))
    kernel = np.exp(-0.5 * (away / width) ** 2)
    return np.asarray(np.fft.irfft(np.fft.rfft(values) * np.fft.rfft(kernel / kernel.sum()), hours))
