"""Writes the reviews of waimai_10k.csv into two files, so that pre-training and tuning leave out the same test rows.

Equal reviews count once; those with both labels are left out. A fifth of each label is the test split.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

from peftlab.data.duplicates import text_key

TEST_SHARE = 0.2


def main(source: Path, folder: Path) -> None:
    """Write train.csv and test.csv."""
    labels: dict[bytes, set[str]] = {}
    texts: dict[bytes, str] = {}
    with source.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            key = text_key([row["review"]])
            labels.setdefault(key, set()).add(row["label"])
            texts.setdefault(key, row["review"])
    rows = [(min(labels[key]), text) for key, text in texts.items() if text.strip() and len(labels[key]) == 1]
    random.Random(0).shuffle(rows)  # noqa: S311 - no secret
    parts: dict[str, list[tuple[str, str]]] = {"test": [], "train": []}
    for label in sorted({label for label, _ in rows}):
        own = [row for row in rows if row[0] == label]
        cut = round(TEST_SHARE * len(own))
        parts["test"] += own[:cut]
        parts["train"] += own[cut:]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "review"])
            writer.writerows(part)
        print(f"{name}: {len(part)} reviews")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
