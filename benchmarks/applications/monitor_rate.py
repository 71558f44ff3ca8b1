"""Whether the stated rate of false alarms holds on known processes in which nothing happens; at least 1,000 weeks each.

    python benchmarks/applications/monitor_rate.py --output benchmarks/applications/monitor_rate.json

Each four weeks are a system of their own: a drawn history, a baseline and a threshold learned from it alone. About two
minutes a process on one core; a process that is in the file already is not watched again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from peftlab.applications.monitor.evaluation import poisson_interval
from peftlab.applications.monitor.settings import Watch
from peftlab.applications.monitor.trial import simulate, stated_ratio

STATED = 4.0
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
