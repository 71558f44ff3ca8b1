"""Writes what the runs of pretraining.py say into a JSON file: scores, and the difference in accuracy.

The interval (95 %) is that of a report: over seeds and test rows, crossed, paired by row.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from peftlab.statistics.intervals import mean_interval


def main(runs: Path, target: Path) -> None:
    """Look at the seeds whose two runs ended well."""
    seeds = [seed for seed in range(9) if all(ended(runs / f"{kind}-{seed}") for kind in ("with", "without"))]
    found = {kind: [runs / f"{kind}-{seed}" for seed in seeds] for kind in ("with", "without")}
    difference = np.array([right(first) - right(second) for first, second in zip(*found.values(), strict=True)])
    interval = mean_interval(difference, changes=True)
    content = {
        "seeds": seeds,
        "test_rows": difference.shape[1],
        "scores": {kind: [record(folder)["scores"]["test"] for folder in folders] for kind, folders in found.items()},
        "accuracy_with_minus_without": {"mean": interval.mean, "low": interval.low, "high": interval.high},
        "reading": record(runs / "read")["scores"]["test"],
    }
    target.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content["accuracy_with_minus_without"]), seeds)


def record(folder: Path) -> dict[str, Any]:
    """The record of a run."""
    found: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return found


def ended(folder: Path) -> bool:
    """Whether a run ended well."""
    return (folder / "record.json").exists() and record(folder)["status"] == "success"


def right(folder: Path) -> np.ndarray:
    """Of each test row, whether its prediction is right, in the order of the rows."""
    rows = [row for row in parquet.read_table(folder / "predictions.parquet").to_pylist() if row["split"] == "test"]
    return np.array([float(row["label"] == row["prediction"]) for row in sorted(rows, key=lambda row: row["index"])])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
