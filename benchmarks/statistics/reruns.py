"""Do published comparisons hold when their authors run them again?

    python benchmarks/statistics/reruns.py FIRST SECOND [--output FOLDER]

FIRST and SECOND are folders of result files of huggingface/peft's MetaMathQA comparison, as their repository has them
at two times; runs are the same where the files have the same name. Each is one run, with the same seed in both. Three
questions are answered, the first two without the runs that had no right answer in both, where nothing could change:

- Of the pairs that FIRST tells apart, how many stand in the other order in SECOND? Once with tests over the examples
  alone, once as ``peftlab report`` tells methods with one seed apart. Both are corrected for all pairs of FIRST.
- How many of SECOND's scores lie in the 95 % interval (Wilson's, over the examples alone) of FIRST's?
- By how much did all runs shift together, and by how much each apart from that?

Writes reruns.csv, a line per run, and reruns.md.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peftlab.report.comparison import Comparison
from peftlab.report.document import build_report
from peftlab.report.shifts import Shift, common_shift
from peftlab.statistics.pairs import holm
from peftlab.statistics.proportions import compare_proportions, wilson_interval

HERE = Path(__file__).resolve().parent
LEVEL = 0.05


@dataclass(frozen=True)
class Rerun:
    """One run at two times; scores are shares of right answers."""

    name: str
    first: float
    second: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the second score lies in the interval of the first."""
        return self.low <= self.second <= self.high


@dataclass(frozen=True)
class Pairs:
    """Pairs of runs that are in both sets: how many there are, are told apart, and are then reversed."""

    all: int
    told_apart: int
    reversed: int


def only_comparison(folder: Path) -> Comparison:
    """The one comparison of a folder."""
    (comparison,) = build_report([folder]).comparisons
    return comparison


def reruns(first: Comparison, second: Comparison, examples: int) -> list[Rerun]:
    """The runs that are in both, best first; those without a right answer in both are left out."""
    again = {method.name: method.mean for method in second.methods}
    return [
        Rerun(m.name, m.mean, again[m.name], *wilson_interval(round(m.mean * examples), examples))
        for m in first.methods
        if m.name in again and (m.mean or again[m.name])
    ]


def adjusted_over_examples(first: Comparison, examples: int) -> NDArray[np.float64]:
    """Holm's p-values of all pairs, over the examples alone."""
    size = len(first.methods)
    right = [round(method.mean * examples) for method in first.methods]
    upper = np.triu_indices(size, 1)
    table = np.full((size, size), np.nan)
    table[upper] = holm([compare_proportions(right[a], right[b], examples) for a, b in zip(*upper, strict=True)])
    return np.fmax(table, table.T)


def count_pairs(first: Comparison, found: Sequence[Rerun], adjusted: NDArray[np.float64]) -> Pairs:
    """How many pairs are told apart, and then stand in the other order."""
    at = {method.name: number for number, method in enumerate(first.methods)}
    a, b = np.triu_indices(len(found), 1)
    position = np.array([at[run.name] for run in found])
    before, after = (np.array([score(run) for run in found]) for score in (lambda r: r.first, lambda r: r.second))
    apart = adjusted[position[a], position[b]] < LEVEL
    other_order = (before[a] - before[b]) * (after[a] - after[b]) < 0
    return Pairs(len(a), int(apart.sum()), int((apart & other_order).sum()))


def report(found: Sequence[Rerun], shift: Shift, alone: Pairs, stated: Pairs, examples: int) -> str:
    """The outcome in Markdown."""
    held = sum(run.holds for run in found)
    moved = sum(run.low <= run.second - shift.mean <= run.high for run in found)
    mean, low, high, spread = (100 * value for value in (shift.mean, shift.low, shift.high, shift.spread))
    lines = [
        "# Published runs, run again by their authors",
        "",
        "Written by `python benchmarks/statistics/reruns.py FIRST SECOND`, from huggingface/peft's MetaMathQA results",
        f"of January and July 2026: {shift.methods} runs are in both, one seed each (the same), {examples:,} test",
        "questions. Between the two lie newer versions of peft and transformers. Intervals and pairs are of the",
        f"{len(found)} that had a right answer.",
        "",
        "| tests between January's runs | pairs | told apart | of these in the other order in July |",
        "|---|---|---|---|",
        f"| over the examples alone, Holm-corrected | {alone.all} | {alone.told_apart} | {alone.reversed} |",
        f"| as the report tells methods with one seed apart | {stated.all} | {stated.told_apart} | {stated.reversed} |",
        "",
        "The seed is the same in both, so this says nothing of what another seed would change: hence the second row,",
        "which takes a spread of the seeds for granted (`one_seed.md`).",
        "",
        f"**Intervals.** {held} of {len(found)} scores of July lie in the 95 % interval of January's, which is over",
        "the examples alone.",
        "",
        f"**Common shift.** The {shift.methods} runs together moved by {mean:+.1f} points (95 % interval over runs",
        f"{low:+.1f} to {high:+.1f}). Apart from that a run moved by {spread:.1f} points (standard deviation). With",
        f"the common shift taken away, {moved} of {len(found)} intervals hold.",
        "",
        "| run | January | 95 % interval | July | moved | apart from the shift | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run.name} | {100 * run.first:.1f} | {100 * run.low:.1f} to {100 * run.high:.1f} | "
        f"{100 * run.second:.1f} | "
        f"{100 * (run.second - run.first):+.1f} | {100 * (run.second - run.first - shift.mean):+.1f} | "
        f"{'yes' if run.holds else 'no'} |"
        for run in found
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compare, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--output", type=Path, default=HERE)
    chosen = parser.parse_args()
    first, second = only_comparison(chosen.first), only_comparison(chosen.second)
    examples = first.rows["test"]
    found = reruns(first, second, examples)
    scores = [{method.name: method.mean for method in comparison.methods} for comparison in (first, second)]
    shift = common_shift(scores[0], scores[1], (chosen.first.name, chosen.second.name))
    if shift is None:
        raise SystemExit(f"{chosen.first} and {chosen.second} have fewer than three runs in common")
    alone = count_pairs(first, found, adjusted_over_examples(first, examples))
    stated = count_pairs(first, found, first.pairs.adjusted)
    with (chosen.output / "reruns.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "first", "low", "high", "second", "holds"])
        writer.writerows([r.name, *(f"{v:.6f}" for v in (r.first, r.low, r.high, r.second)), r.holds] for r in found)
    (chosen.output / "reruns.md").write_text(report(found, shift, alone, stated, examples), encoding="utf-8")


if __name__ == "__main__":
    main()
