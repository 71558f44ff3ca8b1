"""How often comparisons of many methods find what is not there, and what is: seeds of unequal spread, known truth.

    python benchmarks/statistics/all_pairs.py [--repetitions 600] [--output FOLDER]

Outcomes are those of simulate.py. The seeds' standard deviations are the same for all methods, or log-normal around one
point (standard deviation of the logarithm 0.3), or 2 points for every other method or for one method and 0.2 points for
the rest. There are twelve methods, of which the first two, three and four are also compared alone: all of accuracy
0.75, which shows false alarms, or of accuracies from 0.7 to 0.8, which shows how many true differences are found after
Holm's correction. For comparison there is the test of each pair alone, whose standard error comes from the pair's own
differences, seed by seed. Writes all_pairs.csv, one line per truth, and all_pairs.md.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from simulate import SAME_DIFFICULTY, SAME_EXAMPLE, Cell, latent_seed_deviation

from peftlab.statistics.pairs import compare_all, holm

HERE = Path(__file__).resolve().parent
SEEDS = (3, 5, 10)
METHODS = (2, 3, 4, 12)
EXAMPLES = (1000, 2000)
SPREADS = ("0.2", "0.5", "1", "2", "log-normal", "every other noisy", "one noisy")
QUIET, NOISY = 0.2, 2.0
EQUAL = (0.75,) * 12
LADDER = (0.80, 0.79, 0.75, 0.70, 0.78, 0.80, 0.79, 0.75, 0.70, 0.78, 0.80, 0.75)
POINTS = (1, 2, 5, 10)
LEVEL = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """How the seeds of the methods spread, whether the methods are equal, and the number of examples."""

    spread: str
    equal: bool
    examples: int


def grid() -> list[Truth]:
    return [Truth(*values) for values in itertools.product(SPREADS, (True, False), EXAMPLES)]


def seed_points(spread: str, rng: np.random.Generator) -> list[float]:
    """The seeds' standard deviation of each method, in points."""
    count = len(EQUAL)
    if spread == "every other noisy":
        return [QUIET if at % 2 else NOISY for at in range(count)]
    if spread == "one noisy":
        return [QUIET if at else NOISY for at in range(count)]
    if spread == "log-normal":
        # To a tenth, so that the latent deviations of few truths have to be found.
        return [max(0.1, round(math.exp(0.3 * value), 1)) for value in rng.standard_normal(count)]
    return [float(spread)] * count


def outcomes(truth: Truth, seeds: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Methods × seeds × examples, right or wrong: the model of simulate.py."""
    accuracies = EQUAL if truth.equal else LADDER
    known: dict[Cell, float] = LATENT
    cells = [Cell(*values, 0) for values in zip(accuracies, seed_points(truth.spread, rng), strict=True)]
    for cell in set(cells) - known.keys():
        known[cell] = latent_seed_deviation(cell)
    deviation = np.array([known[cell] for cell in cells], dtype=np.float32)[:, None, None]
    middle = (ndtri(np.array(accuracies))[:, None, None] * np.sqrt(1 + deviation**2)).astype(np.float32)
    shape = (len(cells), seeds, truth.examples)
    of_examples = np.float32(SAME_DIFFICULTY**0.5) * rng.standard_normal((1, 1, shape[2]), dtype=np.float32)
    of_examples = of_examples + np.float32((1 - SAME_DIFFICULTY) ** 0.5) * rng.standard_normal(
        (shape[0], 1, shape[2]), dtype=np.float32
    )
    threshold = np.float32(SAME_EXAMPLE**0.5) * of_examples + middle
    threshold = threshold + deviation * rng.standard_normal((*shape[:2], 1), dtype=np.float32)
    return rng.standard_normal(shape, dtype=np.float32) * np.float32((1 - SAME_EXAMPLE) ** 0.5) > -threshold


LATENT: dict[Cell, float] = {}


def test_of_each_pair(scores: Array) -> Callable[[float], NDArray[np.bool_]]:
    """Each pair by its own differences, against Cochran's quantile: which pairs have at most a p-value."""
    methods, seeds, examples = scores.shape
    upper = np.triu_indices(methods, 1)
    mean = scores.mean(axis=(1, 2))
    scores = scores - mean[:, None, None]

    def distances(rows: Array) -> Array:
        products = rows @ rows.T
        lengths = np.diagonal(products)
        return np.asarray((lengths[:, None] + lengths[None, :] - 2 * products)[upper])

    sum_seeds, sum_examples = examples * distances(scores.mean(axis=2)), seeds * distances(scores.mean(axis=1))
    interaction = (distances(scores.reshape(methods, -1)) - sum_seeds - sum_examples) / ((seeds - 1) * (examples - 1))
    of_seeds = sum_seeds / (seeds - 1) / (seeds * examples)
    of_examples = np.maximum(sum_examples / (examples - 1) - interaction, 0) / (seeds * examples)
    total, distance = of_seeds + of_examples, np.abs(mean[upper[0]] - mean[upper[1]])

    def apart(p_value: float) -> NDArray[np.bool_]:
        of_both = -stdtrit(seeds - 1, p_value / 2) * of_seeds - stdtrit(examples - 1, p_value / 2) * of_examples
        return np.asarray(distance * np.sqrt(total) > of_both)

    return apart


def holm_steps(apart: Callable[[float], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Which pairs a test tells apart after Holm's correction."""
    count, pairs = 0, apart(LEVEL).size
    while count < pairs and (found := int(apart(LEVEL / (pairs - count)).sum())) > count:
        count = found
    return apart(LEVEL / max(1, pairs - count)) if count else np.zeros(pairs, dtype=np.bool_)


def tally(truth: Truth, noisy: NDArray[np.bool_], scores: Array, row: dict[str, list[float]]) -> None:
    """Add the figures of one comparison to the lists of a row."""
    first, second = np.triu_indices(len(scores), 1)
    accuracies = np.array(EQUAL if truth.equal else LADDER)
    points = np.rint(100 * np.abs(accuracies[first] - accuracies[second]))
    p_values = compare_all(list(scores)).p_value[first, second]
    alone = test_of_each_pair(scores)
    corrected = np.array(holm(p_values.tolist())) <= LEVEL
    if truth.equal:
        alarms, number = p_values <= LEVEL, noisy[first].astype(int) + noisy[second]
        row["false_alarms"].append(alarms.mean())
        row["any_after_holm"].append(corrected.any())
        row["alone_false_alarms"].append(alone(LEVEL).mean())
        row["alone_any_after_holm"].append(alone(LEVEL / len(first)).any())
        for name, kind in (("quiet_quiet", 0), ("quiet_noisy", 1), ("noisy_noisy", 2)):
            if noisy.any() and (number == kind).any():
                row[f"false_alarms_{name}"].append(alarms[number == kind].mean())
        return
    alone_corrected = holm_steps(alone)
    for size in POINTS:
        if (points == size).any():
            row[f"found_{size}"].append(corrected[points == size].mean())
            row[f"alone_found_{size}"].append(alone_corrected[points == size].mean())


FIGURES = (
    *(f"{whose}{what}" for what in ("false_alarms", "any_after_holm") for whose in ("", "alone_")),
    *(f"false_alarms_{kind}" for kind in ("quiet_quiet", "quiet_noisy", "noisy_noisy")),
    *(f"{whose}found_{points}" for points in POINTS for whose in ("", "alone_")),
)


def simulate(truth: Truth, repetitions: int, seed: int) -> list[dict[str, str]]:
    """One row per number of methods and seeds; the first ones of the same outcomes. An empty figure does not apply."""
    key = [seed, SPREADS.index(truth.spread), int(truth.equal), truth.examples]
    rng = np.random.Generator(np.random.SFC64(key))
    tallies: dict[tuple[int, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    noisy = np.array([points == NOISY for points in seed_points(truth.spread, rng)]) & ("noisy" in truth.spread)
    for _ in range(repetitions):
        right = outcomes(truth, max(SEEDS), rng).astype(np.float64)
        for methods, seeds in itertools.product(METHODS, SEEDS):
            tally(truth, noisy[:methods], right[:methods, :seeds], tallies[methods, seeds])
    rows = []
    for (methods, seeds), found in tallies.items():
        figures = {name: f"{np.mean(found[name]):.5f}" if name in found else "" for name in FIGURES}
        about = {"spread": truth.spread, "equal": str(truth.equal), "examples": str(truth.examples)}
        about |= {"methods": str(methods), "seeds": str(seeds), "repetitions": str(repetitions)}
        rows.append({**about, **figures})
    return rows


def table(rows: list[dict[str, str]]) -> str:
    """The outcome in Markdown."""
    repetitions = int(rows[0]["repetitions"])
    head = ("seeds' deviation, points", "methods", "examples", *(f"{seeds} seeds" for seeds in SEEDS))
    lines = [
        "# All pairs of a comparison: false alarms, and true differences that are found",
        "",
        "Written by `python benchmarks/statistics/all_pairs.py`; the model is described there. Percent, of "
        f"{repetitions:,} comparisons per line; with two methods a false-alarm rate has a Monte-Carlo standard error "
        f"of {100 * math.sqrt(LEVEL * (1 - LEVEL) / repetitions):.1f} points, with more methods a smaller one.",
    ]
    sections = (
        ("Equal methods: pairs that seem to differ, uncorrected", "True", "false_alarms"),
        ("Equal methods: comparisons with any difference after Holm's correction", "True", "any_after_holm"),
        *(
            (
                f"Pairs that are {size} point{'s' * (size > 1)} apart and are found after Holm's correction",
                "False",
                f"found_{size}",
            )
            for size in POINTS
        ),
    )
    for title, equal, name in sections:
        lines += ["", f"## {title}", "", "`compare_all` / each pair alone", ""]
        lines += _table(head, rows, equal, (name, f"alone_{name}"))
    kinds = tuple(name for name in FIGURES if name.startswith("false_alarms_"))
    lines += ["", "## Equal methods of unequal spread: which pairs seem to differ", ""]
    lines += ["`compare_all`: two quiet methods / a quiet and a noisy one / two noisy ones", ""]
    lines += _table(head, [row for row in rows if "noisy" in row["spread"]], "True", kinds)
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: list[dict[str, str]], equal: str, names: tuple[str, ...]) -> list[str]:
    cells: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in rows:
        if row["equal"] == equal and any(row[name] for name in names):
            shown = (f"{100 * float(row[name]):.1f}" if row[name] else "–" for name in names)
            cells[row["spread"], row["methods"], row["examples"]].append(" / ".join(shown))
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join((*about, *figures))} |" for about, figures in cells.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=600)
    parser.add_argument("--output", type=Path, default=HERE)
    arguments = parser.parse_args()
    rows = [row for truth in grid() for row in simulate(truth, arguments.repetitions, seed=20)]
    with (arguments.output / "all_pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (arguments.output / "all_pairs.md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
