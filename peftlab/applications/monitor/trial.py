"""Tries of the detector: surges planted into known days, and false alarms counted, on data and in simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from peftlab.applications.monitor.baseline import DAY, WEEK, Baseline, Floats, fit_baseline
from peftlab.applications.monitor.settings import Watch
from peftlab.applications.monitor.surges import (
    LONGEST_HISTORY,
    MONTH,
    begins,
    calibrate,
    draw,
    fit_detector,
    score,
)
from peftlab.applications.monitor.times import hour_of_week

LEAST = 10
"""A surge is planted where both hours have so many voices at least."""
FACTOR = 3
LASTS = 2
"""Hours."""


@dataclass
class Trial:
    """What was found.

    Args:
        within_one: Of each planted surge, whether it was found in its first hour.
        within_two: Whether it was found in one of its two hours.
        alarms: That began on the days as they are.
        hours: That were watched, over all streams.
    """

    within_one: list[bool] = field(default_factory=list)
    within_two: list[bool] = field(default_factory=list)
    alarms: int = 0
    hours: int = 0

    @property
    def alarms_a_week(self) -> float:
        """Of each stream."""
        return self.alarms / (self.hours / WEEK)


def try_on(counts: Mapping[str, Floats], start: int, known: int, watch: Watch, seed: int) -> Trial:
    """Watch days as the watcher does, with and without planted surges.

    Args:
        counts: By stream: series × hours, all topics in the first row.
        start: The first column's hour, a midnight.
        known: So many hours are history; a multiple of 24.
        watch: Settings of the detector.
        seed: Of calibration and ties.
    """
    trial = Trial()
    random = np.random.default_rng(seed)
    for found in counts.values():
        rates = np.full(len(found), watch.topic_false_alarms_a_month / max(len(found) - 1, 1))
        rates[0] = watch.false_alarms_a_month
        surges = []
        for day in range(known, found.shape[1], DAY):
            first = max(day - LONGEST_HISTORY, 0)
            detector = fit_detector(
                found[:1, first:day], hour_of_week(start + first), rates[:1],
                discount=watch.discount, smoothing=watch.smoothing, seed=seed,
            )  # fmt: skip
            live = found[:1, day : day + DAY]
            ties = random.random(live.shape)
            hour, threshold = hour_of_week(start + day), detector.threshold[0]
            surges.append(score(live, hour, detector.baseline, ties)[0] < threshold)
            for at in range(live.shape[1] - LASTS + 1):
                if live[0, at : at + LASTS].min() < LEAST:
                    continue
                planted = live[:, : at + LASTS].copy()
                planted[0, at:] *= FACTOR
                is_surge = score(planted, hour, detector.baseline, ties[:, : at + LASTS])[0, at:] < threshold
                trial.within_one.append(bool(is_surge[0]))
                trial.within_two.append(bool(is_surge.any()))
        series = np.concatenate(surges)[None] if surges else np.zeros((1, 0), bool)
        trial.alarms += int(begins(series).sum())
        trial.hours += series.size
    return trial


def simulate(
    *, level: float, dispersion: float, history: int, alarms_a_month: float, weeks: int, watch: Watch, seed: int
) -> Trial:
    """Count alarms on a process that is known and in which nothing happens.

    Each copy is a new system: drawn history, baseline and threshold fitted from it alone, then four weeks.

    Args:
        level: Counts an hour, on average.
        dispersion: φ of the process.
        history: Hours that a detector is fitted from.
        alarms_a_month: As stated.
        weeks: So many at least are watched.
        watch: Discount and smoothing.
        seed: Of all that is drawn.
    """
    truth = Baseline(known_course(), np.array([dispersion]), np.array([level]), watch.discount)
    random = np.random.default_rng(seed)
    trial = Trial()
    for copy in range(-(-weeks // 4)):
        drawn = draw(truth, 0, 1, history + 4 * WEEK, 0, random)
        fitted = fit_baseline(drawn[:, :history], 0, discount=watch.discount, smoothing=watch.smoothing)
        threshold = calibrate(
            fitted, history, 0, np.array([alarms_a_month]), smoothing=watch.smoothing, seed=seed + copy, weeks=200
        )
        live = drawn[:, history:]
        scores = score(live, history % WEEK, fitted, random.random(live.shape))
        trial.alarms += int(begins(scores < threshold[:, None]).sum())
        trial.hours += live.size
    return trial


def known_course() -> Floats:
    """A week's course: few by night, most in the late afternoon, fewer at the week's end. 1 × 168, mean 1."""
    hour = np.arange(WEEK)
    course = 1 + 0.7 * np.sin((hour % DAY - 10) / DAY * 2 * np.pi) + 0.15 * np.sin((hour % DAY) / DAY * 4 * np.pi)
    course *= np.where(hour // DAY >= 5, 0.7, 1.0)
    return np.asarray((course / course.mean())[None])


def stated_ratio(trials: Sequence[Trial], alarms_a_month: float) -> float:
    """Alarms over those that were stated."""
    hours = sum(trial.hours for trial in trials)
    return sum(trial.alarms for trial in trials) / (alarms_a_month * hours / MONTH)
