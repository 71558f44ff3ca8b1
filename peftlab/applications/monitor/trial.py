"""Tries of the detector: surges planted into known days, and false alarms counted, on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from peftlab.applications.monitor.baseline import DAY, WEEK, Floats
from peftlab.applications.monitor.settings import Watch
from peftlab.applications.monitor.surges import (
    LONGEST_HISTORY,
    QUIET,
    begins,
    fit_detector,
    score,
)
from peftlab.applications.monitor.times import hour_of_week

LEAST = 10
"""A surge is planted where both hours have so many voices at least."""
FACTOR = 3
LASTS = 2
"""Hours."""


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
