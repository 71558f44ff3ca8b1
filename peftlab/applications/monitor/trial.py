"""Tries of the detector: surges planted into known days, and false alarms counted, on data and in simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from peftlab.applications.monitor.baseline import DAY, WEEK, Floats
from peftlab.applications.monitor.settings import Watch
from peftlab.applications.monitor.surges import (
    LONGEST_HISTORY,
    MONTH,
    QUIET,
    begins,
    counts_of,
    fit_detector,
    score,
)
from peftlab.applications.monitor.times import hour_of_week

LEAST = 10
"""A surge is planted where both hours have so many voices at least."""
FACTOR = 3
LASTS = 2
"""Hours."""
WATCHED_WEEKS = 4
DRAWN_WEEKS = 200
"""For each threshold of a simulated system: half of what the watcher draws."""


@dataclass(frozen=True)
class Watched:
    """The hours of a stream.

    Args:
        start: Its first hour, a midnight; hours since 1970.
        known: So many hours are history; a multiple of 24.
        counts: Voices; 1 × hours.
    """

    start: int
    known: int
    counts: Floats


@dataclass
class Trial:
    """What was found.

    Args:
        within_one: Of each planted surge, whether it was found in its first hour.
        within_two: Whether it was found in one of its two hours.
        alarms: That began on the days as they are: stream, hour since 1970, voices.
        hours: That were watched, over all streams.
    """

    within_one: list[bool] = field(default_factory=list)
    within_two: list[bool] = field(default_factory=list)
    alarms: list[tuple[str, int, int]] = field(default_factory=list)
    hours: int = 0

    @property
    def alarms_a_week(self) -> float:
        """Of each stream."""
        return len(self.alarms) / (self.hours / WEEK)


def try_on(streams: Mapping[str, Watched], watch: Watch, seed: int) -> Trial:
    """Watch days as the watcher does, with and without planted surges.

    A surge is planted where no alarm goes on without it: there it would be found whatever the detector does.

    Args:
        streams: By name.
        watch: Settings of the detector.
        seed: Of calibration and ties.
    """
    trial = Trial()
    random = np.random.default_rng(seed)
    for name, stream in streams.items():
        counts = stream.counts
        is_surge = np.zeros((1, counts.shape[1]), dtype=bool)
        for day in range(stream.known, counts.shape[1], DAY):
            first = max(day - LONGEST_HISTORY, 0)
            detector = fit_detector(
                counts[:, first:day], hour_of_week(stream.start + first), np.array([watch.false_alarms_a_month]),
                discount=watch.discount, smoothing=watch.smoothing, least=watch.least_voices, seed=seed,
            )  # fmt: skip
            live = counts[:, day : day + DAY]
            ties = random.random(live.shape)
            hour, threshold = hour_of_week(stream.start + day), detector.threshold[0]
            is_surge[:, day : day + DAY] = score(live, hour, detector.baseline, ties, watch.least_voices) < threshold
            for at in range(live.shape[1] - LASTS + 1):
                goes_on = is_surge[0, max(day + at - QUIET, 0) : day + at + LASTS].any()
                if goes_on or live[0, at : at + LASTS].min() < LEAST:
                    continue
                planted = live[:, : at + LASTS].copy()
                planted[0, at:] *= FACTOR
                found = (
                    score(planted, hour, detector.baseline, ties[:, : at + LASTS], watch.least_voices)[0, at:]
                    < threshold
                )
                trial.within_one.append(bool(found[0]))
                trial.within_two.append(bool(found.any()))
        began = np.flatnonzero(begins(is_surge)[0]).tolist()
        trial.alarms += [(name, stream.start + at, int(counts[0, at])) for at in began]
        trial.hours += counts.shape[1] - stream.known
    return trial


def simulate(
    *,
    level: float,
    excess: float,
    history: int,
    alarms_a_month: float,
    weeks: int,
    watch: Watch,
    seed: int,
    is_quadratic: bool = False,
) -> Trial:
    """Count alarms on a process that is known and in which nothing happens.

    Four weeks are a system of their own: a drawn history, and what is learned from it alone. As it goes on, baseline
    and threshold are learned anew each week; the watcher does so each day.

    Args:
        level: Counts an hour, on average.
        excess: Of the process: variance over mean, less one.
        history: Hours that a detector is fitted from at first.
        alarms_a_month: As stated.
        weeks: So many at least are watched.
        watch: Discount and smoothing.
        seed: Of all that is drawn.
        is_quadratic: The process is of a kind that the baseline does not know: its variance grows with the square of
            the mean. The excess is that of an hour of ``level``; a busier one has more.
    """
    random = np.random.default_rng(seed)
    trial = Trial()
    systems = -(-weeks // WATCHED_WEEKS)
    mean = level * known_course()[:, np.arange(history + WATCHED_WEEKS * WEEK) % WEEK]
    drawn = counts_of(np.repeat(mean, systems, axis=0), excess * mean / level if is_quadratic else excess, random)
    is_surge = np.zeros(drawn.shape, dtype=bool)
    for week in range(WATCHED_WEEKS):
        now = history + week * WEEK
        first = max(now - LONGEST_HISTORY, 0)
        detector = fit_detector(
            drawn[:, first:now], first % WEEK, np.full(systems, alarms_a_month),
            discount=watch.discount, smoothing=watch.smoothing, least=watch.least_voices,
            seed=seed + week, weeks=DRAWN_WEEKS,
        )  # fmt: skip
        live = drawn[:, now : now + WEEK]
        scores = score(live, now % WEEK, detector.baseline, random.random(live.shape), watch.least_voices)
        is_surge[:, now : now + WEEK] = scores < detector.threshold[:, None]
    trial.alarms = [
        (f"system {system}", int(at), int(drawn[system, at])) for system, at in np.argwhere(begins(is_surge))
    ]
    trial.hours = systems * WATCHED_WEEKS * WEEK
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
    return sum(len(trial.alarms) for trial in trials) / (alarms_a_month * hours / MONTH)
