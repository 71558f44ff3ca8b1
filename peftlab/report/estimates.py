"""A mean over the seeds with its interval, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peftlab.core.metric import METRICS
from peftlab.report import wording
from peftlab.statistics.intervals import differ, seeds_interval


@dataclass(frozen=True)
class Estimate:
    """A mean over the seeds. Its 95 % interval is for further ones on the same rows; None where they do not differ."""

    mean: float
    low: float | None = None
    high: float | None = None


def estimate(values: Sequence[float]) -> Estimate:
    """The mean over the seeds, with its interval."""
    if not differ(values):
        return Estimate(float(values[0]))
    found = seeds_interval(values)
    return Estimate(found.mean, found.low, found.high)


def bounded(found: Estimate, metric: str) -> Estimate:
    """A mean of scores whose interval does not leave the metric's range, which Student's may do."""
    if found.low is None or found.high is None:
        return found
    least, most = METRICS[metric].range
    return Estimate(found.mean, max(found.low, least), min(found.high, most))


def shown_score(found: Estimate | None, metric: str) -> str:
    """``78.4 % (77.2 to 79.6)``."""
    if found is None:
        return wording.NONE
    if found.low is None:
        return wording.score(found.mean, metric)
    low, high = (wording.score(end, metric, unit=False) for end in (found.low, found.high))
    return f"{wording.score(found.mean, metric)} ({low} to {high})"


def shown_points(found: Estimate | None, metric: str) -> str:
    """A difference: ``+1.2 (0.3 to 2.1)``."""
    if found is None:
        return wording.NONE
    text = wording.points(found.mean, metric)
    if found.low is None:
        return text
    return f"{text} ({wording.points(found.low, metric)} to {wording.points(found.high, metric)})"
