"""Whether the stated rate of false alarms holds on known processes in which nothing happens; at least 1,000 weeks each.

    python benchmarks/applications/monitor_rate.py --output benchmarks/applications/monitor_rate.json

Each four weeks are a system of their own: a drawn history, a baseline and a threshold learned from it alone. About two
minutes a process on one core; a process that is in the file already is not watched again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from peftlab.applications.monitor.baseline import DAY, WEEK, Floats
from peftlab.applications.monitor.evaluation import poisson_interval
from peftlab.applications.monitor.settings import Watch
from peftlab.applications.monitor.surges import LONGEST_HISTORY, MONTH, begins, counts_of, fit_detector, score
from peftlab.applications.monitor.trial import Trial

STATED = 4.0
WATCHED_WEEKS = 4
DRAWN_WEEKS = 200
"""For each threshold of a simulated system: half of what the watcher draws."""
PROCESSES = {
    "five days known, 8 an hour, variance 3 times the mean": {"level": 8.0, "excess": 2.0, "history": 5 * 24},
    "eight weeks known, 8 an hour, variance 3 times the mean": {"level": 8.0, "excess": 2.0, "history": 56 * 24},
    "eight weeks known, 30 an hour, variance 2.5 times the mean": {"level": 30.0, "excess": 1.5, "history": 56 * 24},
    "eight weeks known, 1 an hour, variance 1.5 times the mean": {"level": 1.0, "excess": 0.5, "history": 56 * 24},
    "five days known, 8 an hour, variance as the mean's square: mean + 0.25 mean²": {
        "level": 8.0,
        "excess": 2.0,
        "history": 5 * 24,
        "is_quadratic": True,
    },
}


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weeks", type=int, default=1000)
    given = parser.parse_args()
    found = json.loads(given.output.read_text()) if given.output.exists() else {}
    for name, process in PROCESSES.items():
        if name in found:
            continue
        trial = simulate(**process, alarms_a_month=STATED, weeks=given.weeks, watch=Watch(), seed=1)
        low, high = poisson_interval(len(trial.alarms))
        ratio = stated_ratio([trial], STATED)
        found[name] = {
            "weeks": trial.hours / 168,
            "alarms": len(trial.alarms),
            "stated_a_month": STATED,
            "over_stated": round(ratio, 3),
            "interval": [round(end * ratio / max(len(trial.alarms), 1), 3) for end in (low, high)],
        }
        given.output.write_text(json.dumps(found, indent=2) + "\n")
        print(name, found[name], flush=True)


if __name__ == "__main__":
    main()
