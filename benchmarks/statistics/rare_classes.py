"""How often the interval of macro F1 covers, by how many test examples the rarest class has.

    python benchmarks/statistics/rare_classes.py > benchmarks/statistics/rare_classes.md

Test splits are drawn from populations of known macro F1: a class has its share of the examples and its recall, and what
is taken for others is spread over them by their shares. The interval is that of a report of one seed: Student's, over
the jackknife pseudo-values of ``peftlab.statistics.pseudo_values``, here for all splits at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REPETITIONS = 2000
EXAMPLES = (30, 50, 100, 200, 400, 1000)
POPULATIONS = (
    ((0.5, 0.5), (0.8, 0.8)),
    ((0.45, 0.35, 0.2), (0.8, 0.75, 0.7)),
    ((0.6, 0.3, 0.1), (0.85, 0.8, 0.6)),
    ((0.65, 0.3, 0.05), (0.85, 0.8, 0.6)),
    ((0.65, 0.33, 0.02), (0.85, 0.8, 0.6)),
    ((0.9, 0.1), (0.95, 0.6)),
    ((0.95, 0.05), (0.97, 0.6)),
    ((0.2,) * 5, (0.8,) * 5),
    ((0.1,) * 10, (0.8,) * 10),
    ((0.05,) * 20, (0.8,) * 20),
)
"""Shares and recalls of the classes."""


def population(shares: tuple[float, ...], recalls: tuple[float, ...]) -> Floats:
    """True class × predicted class."""
    table = np.zeros((len(shares), len(shares)))
    for at, recall in enumerate(recalls):
        others = np.array(shares, dtype=np.float64)
        others[at] = 0
        table[at] = (1 - recall) * others / others.sum()
        table[at, at] = recall
    return np.asarray(np.array(shares)[:, None] * table)


def f1_of_classes(confusions: Floats) -> Floats:
    both = confusions.sum(-1) + confusions.sum(-2)
    right = 2 * np.einsum("...ii->...i", confusions)
    return np.asarray(np.divide(right, both, out=np.zeros_like(right), where=both > 0))


def covered(true: Floats, examples: int, rng: np.random.Generator) -> float:
    """Share of the intervals that hold the population's macro F1."""
    from scipy.special import stdtrit

    confusions = rng.multinomial(examples, true.ravel(), size=REPETITIONS).reshape(-1, *true.shape).astype(np.float64)
    classes = (confusions.sum(-1) + confusions.sum(-2) > 0).sum(-1)  # those that occur, or are predicted
    whole = f1_of_classes(confusions).sum(-1) / classes
    values = np.zeros_like(confusions)
    for cell in np.ndindex(*true.shape):
        without = confusions.copy()
        without[:, *cell] -= 1
        left = f1_of_classes(np.maximum(without, 0)).sum(-1) / classes
        values[:, *cell] = np.where(confusions[:, *cell] > 0, examples * whole - (examples - 1) * left, 0)
    mean = (confusions * values).sum((-1, -2)) / examples
    squares = (confusions * (values - mean[:, None, None]) ** 2).sum((-1, -2))
    half = stdtrit(examples - 1, 0.975) * np.sqrt(squares / (examples - 1) / examples)
    truth = f1_of_classes(true).mean()
    low, high = np.maximum(whole - half, 0), np.minimum(whole + half, 1)
    return float(((low <= truth) & (truth <= high)).mean())


def main() -> None:
    rng = np.random.default_rng(0)
    print("# Macro F1 with rare classes: how often its interval covers\n")
    print("Written by `python benchmarks/statistics/rare_classes.py`; the model is described there. Percent of")
    print(
        f"{REPETITIONS:,} simulated test splits whose 95 % interval holds the population's macro F1; in brackets, how"
    )
    print("many examples the rarest class has on average.\n")
    print("| shares of the classes | " + " | ".join(f"{examples:,} examples" for examples in EXAMPLES) + " |")
    print("|---|" + "---|" * len(EXAMPLES))
    for shares, recalls in POPULATIONS:
        true = population(shares, recalls)
        cells = [f"{100 * covered(true, n, rng):.1f} ({n * min(shares):g})" for n in EXAMPLES]
        name = ", ".join(map(str, shares)) if len(set(shares)) > 1 else f"{len(shares)} × {shares[0]}"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
