"""What two sets of the same methods differ by altogether: newer libraries or another machine move all of them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from peftlab.report.entry import Entry
from peftlab.report.naming import Key
from peftlab.statistics.intervals import differ, seeds_interval

FEWEST_METHODS = 3
"""With fewer of them in both sets nothing tells a common shift from what each method did by itself."""


@dataclass(frozen=True)
class Shift:
    """By how much the methods of one set lie above those of another.

    Args:
        first: The set that began earlier.
        second: The other one.
        methods: How many are in both.
        mean: Of the differences of all methods, second less first: what they have in common.
        low: Of the 95 % interval of that mean, over methods (Student's t). Where all methods moved alike there is none,
            and both ends are the mean.
        high: Of the same.
        spread: Standard deviation of the differences: what each method did beyond the common shift.
        metric: What the scores are of.
        same_data: Whether the fingerprints of the data agree.
    """

    first: str
    second: str
    methods: int
    mean: float
    low: float
    high: float
    spread: float
    metric: str = ""
    same_data: bool = True


def common_shift(first: Mapping[str, float], second: Mapping[str, float], names: tuple[str, str]) -> Shift | None:
    """The shift between two sets of scores, by method; None where fewer than three are in both."""
    both = [name for name in first if name in second]
    if len(both) < FEWEST_METHODS:
        return None
    differences = [second[name] - first[name] for name in both]
    found = seeds_interval(differences)
    if not differ(differences):
        return Shift(*names, len(both), found.mean, found.mean, found.mean, 0.0)
    return Shift(*names, len(both), found.mean, found.low, found.high, float(np.std(differences, ddof=1)))


def find_shifts(runs: Mapping[Key, Sequence[Entry]]) -> list[Shift]:
    """The shifts between the sets that some runs come from: their suites, or the folders that they lie in.

    Methods are the same where they have the same name. All runs count, also those that a later run of the same recipe
    and seed replaces, and those whose data differs in its fingerprint alone, as another revision of a data set does.

    Args:
        runs: By what they must share to be compared.
    """
    alike: dict[Key, list[tuple[Key, Entry]]] = defaultdict(list)
    for key, entries in runs.items():
        for entry in entries:
            named = f"{entry.data} {sorted(entry.rows.items())}"
            alike[replace(key, fingerprint=named)].append((key, entry))
    return [shift for key, found in alike.items() for shift in _between_sets(key, found)]


def _between_sets(about: Key, runs: Sequence[tuple[Key, Entry]]) -> list[Shift]:
    sets: dict[Path, list[tuple[Key, Entry]]] = defaultdict(list)
    for key, entry in sorted(runs, key=lambda run: run[1].started_at):
        sets[entry.suite or entry.path.parent].append((key, entry))
    means = {folder: _means([entry for _, entry in found], about) for folder, found in sets.items()}
    prints = {folder: {key.fingerprint for key, _ in found} for folder, found in sets.items()}
    shifts = []
    for a, b in itertools.combinations(sets, 2):
        shift = common_shift(means[a], means[b], _names_of(a, b))
        if shift is not None:
            shifts.append(replace(shift, metric=about.metric, same_data=prints[a] == prints[b]))
    return shifts


def _means(entries: Sequence[Entry], about: Key) -> dict[str, float]:
    scores: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        scores[entry.name].append(entry.scores[about.split][about.metric])
    return {name: float(np.mean(values)) for name, values in scores.items()}


def _names_of(a: Path, b: Path) -> tuple[str, str]:
    """The last part of each folder; more of them where these are the same."""
    if a.name != b.name:
        return a.name, b.name
    return "/".join(a.parts[-2:]), "/".join(b.parts[-2:])
