"""Methods with one seed: how often equal ones seem to differ, and what a stated spread of the seeds costs.

    python benchmarks/statistics/one_seed.py [--repetitions 400] [--results FOLDER] [--output FOLDER]

Outcomes are those of all_pairs.py, with 2,000 examples. Every method has one seed, or, in mixed suites, every second
one has three. The differences are tested over the examples alone, or with a prior for the spread of the seeds
(peftlab/statistics/one_seed.py) of one point and of two, with few and with more degrees of freedom. Writes
one_seed.csv, one line per truth, number of methods and prior, and one_seed.md, which begins with how far seeds lie
apart in the suites of ``--results``.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
from all_pairs import EQUAL, HERE, LADDER, LEVEL, SPREADS, Truth, outcomes

from peftlab.report.document import build_report
from peftlab.statistics.one_seed import SeedPrior
from peftlab.statistics.pairs import compare_all, holm

RESULTS = HERE.parent / "results"
EXAMPLES = 2000
METHODS = (2, 4, 12)
SUITES = ("one seed", "every second one three seeds")
PRIORS: dict[str, SeedPrior | None] = {
    "none": None,
    "1 point, 2": SeedPrior(0.01, 2),
    "1 point, 4": SeedPrior(0.01, 4),
    "1 point, 8": SeedPrior(0.01, 8),
    "2 points, 4": SeedPrior(0.02, 4),
}
POINTS = (5, 10)
FIGURES = ("any_after_holm", *(f"found_{points}" for points in POINTS))


def single_pairs(suite: str, methods: int) -> tuple[list[int], np.ndarray]:
    """Seeds of each method, and which pairs have a method with one seed in them."""
    seeds = [3 if at % 2 and suite != SUITES[0] else 1 for at in range(methods)]
    first, second = np.triu_indices(methods, 1)
    return seeds, np.minimum(np.array(seeds)[first], np.array(seeds)[second]) == 1


def simulate(spread: str, suite: str, repetitions: int, seed: int) -> list[dict[str, str]]:
    """One row per number of methods and prior. Only pairs with a method of one seed are counted."""
    rng = np.random.Generator(np.random.SFC64([seed, SPREADS.index(spread), SUITES.index(suite)]))
    tallies: dict[tuple[int, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _, equal in itertools.product(range(repetitions), (True, False)):
        right = outcomes(Truth(spread, equal, EXAMPLES), 3, rng).astype(np.float64)
        for methods, name in itertools.product(METHODS, PRIORS):
            seeds, single = single_pairs(suite, methods)
            first, second = np.triu_indices(methods, 1)
            scores = [right[at, :number] for at, number in enumerate(seeds)]
            p_values = compare_all(scores, prior=PRIORS[name]).p_value[first, second]
            found = (np.array(holm(p_values.tolist())) <= LEVEL)[single]
            row, accuracies = tallies[methods, name], np.array(EQUAL if equal else LADDER)
            if equal:
                row["any_after_holm"].append(found.any())
                continue
            points = np.rint(100 * np.abs(accuracies[first] - accuracies[second]))[single]
            for size in POINTS:
                if (points == size).any():
                    row[f"found_{size}"].append(found[points == size].mean())
    return [
        {"suite": suite, "spread": spread, "methods": str(methods), "prior": prior, "repetitions": str(repetitions)}
        | {name: f"{np.mean(found[name]):.4f}" if name in found else "" for name in FIGURES}
        for (methods, prior), found in tallies.items()
    ]


def measured_spreads(results: Path) -> list[float]:
    """Standard deviations over the seeds, in points, of every method that accuracy ranks in some suites."""
    comparisons = build_report([results]).comparisons
    methods = [method for comparison in comparisons if comparison.metric == "accuracy" for method in comparison.methods]
    return sorted(100 * float(np.std(method.scores, ddof=1)) for method in methods if len(method.scores) > 2)


def table(rows: list[dict[str, str]], spreads: list[str]) -> str:
    """The outcome in Markdown."""
    values = [float(value) for value in spreads]
    lines = [
        "# Methods with one seed",
        "",
        f"Written by `python benchmarks/statistics/one_seed.py`, {int(rows[0]['repetitions']):,} comparisons per "
        "figure; the model is described there. Percent.",
        "",
        f"In this project's suites the seeds of {len(values)} methods that accuracy ranks lie so many points apart "
        f"(standard deviation): in the middle {np.median(values):.2f}, nine in ten at most "
        f"{np.quantile(values, 0.9):.2f}; the greatest are {', '.join(f'{value:.2f}' for value in values[-3:])}.",
    ]
    titles = {
        "any_after_holm": "Equal methods: comparisons with any difference after Holm's correction",
        **{f"found_{points}": f"Pairs {points} points apart that are found after it" for points in POINTS},
    }
    for suite, (name, title) in itertools.product(SUITES, titles.items()):
        lines += ["", f"## {suite.capitalize()}. {title}", ""]
        lines += [
            "| seeds' deviation, points | methods | " + " | ".join(PRIORS) + " |",
            "|---" * (len(PRIORS) + 2) + "|",
        ]
        cells: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in rows:
            if row["suite"] == suite and row[name]:
                cells[row["spread"], row["methods"]].append(f"{100 * float(row[name]):.0f}")
        lines += [f"| {' | '.join((*about, *figures))} |" for about, figures in cells.items()]
    lines += [
        "",
        "Columns: the prior's standard deviation and degrees of freedom. `none`: over the examples alone, and in mixed "
        "suites, from four methods with several seeds on, with the spread of those.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=HERE)
    arguments = parser.parse_args()
    spreads = [f"{value:.3f}" for value in measured_spreads(arguments.results)]
    rows = [
        row
        for suite, spread in itertools.product(SUITES, SPREADS)
        for row in simulate(spread, suite, arguments.repetitions, seed=21)
    ]
    rows = [{**row, "spreads": " ".join(spreads) if not at else ""} for at, row in enumerate(rows)]
    with (arguments.output / "one_seed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (arguments.output / "one_seed.md").write_text(table(rows, spreads), encoding="utf-8")


if __name__ == "__main__":
    main()
