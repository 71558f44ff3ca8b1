"""Do two suites with different seeds say the same of the methods that both have?

    python benchmarks/statistics/agreement.py FIRST SECOND

FIRST and SECOND are folders of suites, or packs. Only the methods that both have are compared, each suite's runs by
themselves. For every pair of methods it prints what each suite says: the difference with its 95 % interval, and which
method is better after Holm's correction, or that they cannot be told apart. Two suites **contradict** each other where
each names another method as the better one; they **differ in power** where only one of them tells the two apart.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from peftlab.packs.runs import suite_cells
from peftlab.report.comparison import Comparison
from peftlab.report.document import build_report

LEVEL = 0.05


def methods_of(suite: Path) -> set[str]:
    """Names of the cells that a suite has runs of."""
    return {path.name.rpartition("--seed")[0] for path in suite_cells(suite)}


def comparison_of(suite: Path, names: set[str]) -> Comparison:
    """The comparison of some of a suite's methods."""
    folders = [path for path in suite_cells(suite) if path.name.rpartition("--seed")[0] in names]
    (comparison,) = build_report(folders).comparisons
    return comparison


def verdict(comparison: Comparison, first: str, second: str) -> tuple[str | None, str]:
    """The better of two methods, or None; and the difference in words."""
    names = [method.name for method in comparison.methods]
    a, b = names.index(first), names.index(second)
    pairs = comparison.pairs
    difference, low, high = (100 * float(table[a, b]) for table in (pairs.difference, pairs.low, pairs.high))
    words = f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]"
    if not pairs.adjusted[a, b] < LEVEL:
        return None, words
    return (first if difference > 0 else second), words


def main() -> None:
    """Print the table of pairs, and each suite's groups."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    chosen = parser.parse_args()
    names = methods_of(chosen.first) & methods_of(chosen.second)
    comparisons = [comparison_of(suite, names) for suite in (chosen.first, chosen.second)]
    for comparison in comparisons:
        seeds = sorted({entry.seed for entry in comparison.entries})
        print(f"seeds {seeds}: " + ", ".join(f"{m.name} {100 * m.mean:.1f} ({m.letters})" for m in comparison.methods))
    print("\n| pair | first, points | second, points | first says | second says | |\n|---|---|---|---|---|---|")
    for a, b in itertools.combinations(sorted(names), 2):
        (one, in_one), (two, in_two) = (verdict(comparison, a, b) for comparison in comparisons)
        agreement = "agree" if one == two else "contradict" if one and two else "differ in power"
        print(f"| {a} − {b} | {in_one} | {in_two} | {one or '–'} | {two or '–'} | {agreement} |")


if __name__ == "__main__":
    main()
