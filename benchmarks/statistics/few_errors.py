"""How often the interval of an accuracy near 1 covers, with several seeds: Student's halves, and what is used.

    python benchmarks/statistics/few_errors.py > benchmarks/statistics/few_errors.md

The outcomes are those of ``simulate.py``: a probit model with an effect of the seed, a difficulty of the example, and
chance.
"""

from __future__ import annotations

import itertools

import numpy as np
from simulate import Cell, batches

from peftlab.statistics.crossed import variance_of_mean
from peftlab.statistics.intervals import half_width, mean_interval

REPETITIONS = 2000
ACCURACIES = (0.75, 0.95, 0.98)
SEED_POINTS = (0.1, 1.0)
EXAMPLES = (50, 100, 300)
SEEDS = (2, 3, 5)


def covered(cell: Cell, seeds: int) -> tuple[float, float]:
    """Shares of the intervals that hold the accuracy: of mean ± half width, and of ``mean_interval``."""
    rng = np.random.Generator(np.random.SFC64(1))
    halves, used = [], []
    for batch, _ in batches(cell, seeds, REPETITIONS, rng):
        scores = batch.astype(np.float64)
        parts = variance_of_mean(scores)
        halves.append(np.abs(parts.mean - cell.accuracy) <= half_width(parts, 0.95))
        found = [mean_interval(each) for each in scores]
        used.append([each.low <= cell.accuracy <= each.high for each in found])
    return 100 * float(np.concatenate(halves).mean()), 100 * float(np.concatenate(used).mean())


def main() -> None:
    print("# Few errors: how often the interval of an accuracy covers\n")
    print("Written by `python benchmarks/statistics/few_errors.py`; the model is described there. Percent of")
    print(f"{REPETITIONS:,} repetitions whose 95 % interval holds the accuracy: mean ± half width / `mean_interval`,")
    print("which is Wilson's where fewer than 15 examples are wrong.\n")
    print(
        "| accuracy | seeds' standard deviation, points | examples | " + " | ".join(f"{s} seeds" for s in SEEDS) + " |"
    )
    print("|---|---|---|" + "---|" * len(SEEDS))
    for values in itertools.product(ACCURACIES, SEED_POINTS, EXAMPLES):
        cells = [" / ".join(f"{share:.1f}" for share in covered(Cell(*values), seeds)) for seeds in SEEDS]
        print("| " + " | ".join([*map(str, values), *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
