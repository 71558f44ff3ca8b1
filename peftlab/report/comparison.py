"""Which runs are compared with which, and what each method came to.

Runs are compared only where data fingerprint, task, base model, metric, split and the suite's axes are the same. Within
a comparison, runs of the same name and recipe that differ in nothing but the seed are one method.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.core.errors import UserError, did_you_mean
from peftlab.core.metric import METRICS
from peftlab.core.record import Memory
from peftlab.report.entry import Costs, Entry, Excluded
from peftlab.report.evidence import PairEvidence, ScoreInterval, compare_methods, score_interval
from peftlab.report.examples import ExampleTable
from peftlab.report.naming import Cell, Key, Names, method_labels, unique_names
from peftlab.report.shifts import Shift, find_shifts
from peftlab.report.titles import comparison_titles
from peftlab.report.wording import lower_is_better
from peftlab.statistics.groups import group_indistinguishable

LEVEL = 0.05
MOST_METHODS = 12
"""Of so many, the best, the scores by class and the disagreements are shown."""
COST_NAMES = tuple(Costs.__dataclass_fields__)


@dataclass
class MethodResult:
    """One method: its runs, one per seed, and what they came to.

    Args:
        name: Unique in the report.
        label: Short, and unique in the comparison.
        entries: One run per seed, by seed.
        scores: The metric of each run.
        interval: Of the mean.
        per_example: Seeds × examples, what each contributes to the metric; None where that cannot be had.
        predicted: Seeds × examples, codes of the comparison's example table, or numbers.
        costs: Means over the seeds; of the peak memory the greatest, which must fit.
        letters: Groups of methods that cannot be told apart; none where no test compares the method with another.
    """

    name: str
    entries: Sequence[Entry]
    scores: Sequence[float]
    interval: ScoreInterval
    per_example: NDArray[np.float64] | None
    predicted: NDArray[Any] | None
    costs: Costs
    letters: str = ""
    label: str = ""

    @property
    def mean(self) -> float:
        """Mean of the recorded scores over the seeds."""
        return self.interval.mean

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return [entry.seed for entry in self.entries]

    @property
    def cell(self) -> str:
        """The name that the runs themselves have."""
        return self.entries[0].name

    @property
    def memory(self) -> Memory | None:
        """Memory by category, of the seed that took the most."""
        found = [entry.memory for entry in self.entries if entry.memory]
        return max(found, key=lambda memory: memory.peak_bytes, default=None)

    @property
    def peak_memory_bytes(self) -> float | None:
        """The greatest of the seeds: what must fit."""
        return self.costs.peak_memory_bytes


@dataclass
class Comparison:
    """Methods that were run on the same data with the same base model.

    Args:
        key: What they share.
        title: Tells it from the report's other comparisons.
        methods: Best mean first.
        examples: What they were tested on.
        pairs: Between all methods, in their order.
        groups: Names of methods that no test tells apart, best first; one that was not tested is in all of them.
        rows: Examples of each split.
    """

    key: Key
    methods: list[MethodResult]
    examples: ExampleTable
    pairs: PairEvidence
    groups: list[list[str]]
    title: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The metric that methods are ranked by."""
        return self.key.metric

    @property
    def single(self) -> list[str]:
        """Labels of the methods that have one seed alone, so that nothing says what another one would change."""
        return [method.label for method in self.methods if len(method.scores) == 1]

    @property
    def singles_tested(self) -> bool:
        """Whether a test compares any of these with another method."""
        adjusted = zip(self.methods, self.pairs.adjusted, strict=True)
        return any(np.isfinite(own).any() for method, own in adjusted if len(method.scores) == 1)

    @property
    def single_intervals(self) -> int:
        """How many of these have an interval, which is over the test examples alone."""
        return sum(len(method.scores) == 1 and method.interval.low is not None for method in self.methods)

    @property
    def all_tested(self) -> bool:
        """Whether a test compares all the methods that have letters with each other."""
        lettered = [at for at, method in enumerate(self.methods) if method.letters]
        return int(np.isnan(self.pairs.adjusted[np.ix_(lettered, lettered)]).sum()) <= len(lettered)

    @property
    def entries(self) -> list[Entry]:
        """All runs."""
        return [entry for method in self.methods for entry in method.entries]

    @property
    def set_name(self) -> str:
        """The suite, or the folder of published results, that its runs come from; nothing where these are several."""
        names = {entry.set_name for entry in self.entries}
        return (names.pop() or "") if len(names) == 1 else ""

    @property
    def data(self) -> str:
        """What the data is called."""
        return self.methods[0].entries[0].data


def build_comparisons(
    entries: Sequence[Entry], metric: str | None
) -> tuple[list[Comparison], list[Excluded], list[Shift]]:
    """Sort runs into comparisons and evaluate each.

    Args:
        entries: All runs that could be read.
        metric: What to rank by; None: what each run itself was judged by.

    Returns:
        The comparisons in the order in which their first run was found; what is left out; and what sets of the same
        methods differ by altogether.

    Raises:
        UserError: No run has the metric.
    """
    _check_metric(entries, metric)
    excluded: list[Excluded] = []
    by_key: dict[Key, list[Entry]] = defaultdict(list)
    for entry in entries:
        key, reason = _key(entry, metric)
        if key is None:
            excluded.append(Excluded(entry.shown_path, reason))
        else:
            by_key[key].append(entry)
    cells = {key: _cells(found, excluded) for key, found in by_key.items()}
    names, labels = unique_names(cells), method_labels(cells)
    comparisons = [_comparison(key, found, names, labels, excluded) for key, found in cells.items()]
    comparisons = [comparison for comparison in comparisons if comparison.methods]
    for comparison, title in zip(comparisons, comparison_titles(comparisons), strict=True):
        comparison.title = title
    return comparisons, excluded, find_shifts(by_key)


def _check_metric(entries: Sequence[Entry], metric: str | None) -> None:
    known = {name for entry in entries for scores in entry.scores.values() for name in scores}
    if metric is not None and metric not in known:
        raise UserError(f"no run has the metric `{metric}`", where="--metric", hint=did_you_mean(metric, known))


def _key(entry: Entry, metric: str | None) -> tuple[Key | None, str]:
    if not entry.has_scores:
        return None, f"status {entry.status}" + (f": {entry.error}" if entry.error else "")
    if entry.failed_guards and not entry.only_collapsed:
        details = "; ".join(f"{name} ({entry.guards[name].detail})" for name in entry.failed_guards)
        return None, f"a guard failed: {details}"
    if not entry.fingerprint:
        return None, "the record holds no fingerprint of its data, so nothing says what it can be compared with"
    split = next((name for name in ("test", "validation") if entry.scores.get(name)), None)
    if split is None:
        return None, "the record holds no score"
    wanted = metric or entry.metric or next(iter(entry.scores[split]))
    if wanted not in METRICS:
        return None, f"which direction of `{wanted}` is better is not known here: install the package that brings it"
    if wanted not in entry.scores[split]:
        return None, f"the {split} split has no score `{wanted}`; it has {', '.join(entry.scores[split])}"
    key = Key(entry.origin, entry.task, entry.model, entry.fingerprint, wanted, split, entry.axis)
    return key, ""


def _cells(entries: Sequence[Entry], excluded: list[Excluded]) -> dict[Cell, list[Entry]]:
    """Runs by name and recipe; of several with the same seed the latest.

    A key that is null counts as one that is not there: records of older versions lack the keys that were added since.
    """
    cells: dict[Cell, dict[int, Entry]] = defaultdict(dict)
    for entry in sorted(entries, key=lambda entry: entry.started_at):
        settings = {key: value for key, value in entry.settings.items() if value is not None}
        cell = cells[entry.name, json.dumps(settings, sort_keys=True, default=str)]
        earlier = cell.get(entry.seed)
        if earlier is not None:
            excluded.append(
                Excluded(earlier.shown_path, f"a later run has the same recipe and seed: {entry.shown_path}")
            )
        cell[entry.seed] = entry
    return {cell: [runs[seed] for seed in sorted(runs)] for cell, runs in cells.items()}


def _comparison(
    key: Key,
    cells: Mapping[Cell, list[Entry]],
    names: Names,
    labels: Names,
    excluded: list[Excluded],
) -> Comparison:
    table = ExampleTable()
    methods = []
    for cell, entries in cells.items():
        method = _method(names[key, cell], entries, key, table, excluded)
        if method is not None:
            method.label = labels[key, cell]
            methods.append(method)
    methods.sort(key=lambda method: (method.mean if lower_is_better(key.metric) else -method.mean, method.name))
    pairs = compare_methods(methods, key.metric)
    order = [method.name for method in methods]
    differing = {frozenset((order[a], order[b])) for a, b in np.argwhere(np.triu(pairs.adjusted < LEVEL, 1))}
    grouping = group_indistinguishable(order, differing)
    for at, method in enumerate(methods):
        method.letters = grouping.letters[method.name] if np.isfinite(pairs.adjusted[at]).any() else ""
    rows = methods[0].entries[0].rows if methods else {}
    return Comparison(key, methods, table, pairs, [list(group) for group in grouping.groups], rows=rows)


def _method(
    name: str, entries: Sequence[Entry], key: Key, table: ExampleTable, excluded: list[Excluded]
) -> MethodResult | None:
    kept, predicted, contributions = [], [], []
    for entry in entries:
        try:
            of_run, scores = table.read(entry, key.split, key.metric)
        except UserError as error:
            excluded.append(Excluded(entry.shown_path, error.message))
            continue
        kept.append(entry)
        predicted.append(of_run)
        contributions.append(scores)
    if not kept:
        return None
    values = [entry.scores[key.split][key.metric] for entry in kept]
    complete = [scores for scores in contributions if scores is not None]
    per_example = np.array(complete) if len(complete) == len(kept) else None
    all_predicted = [of_run for of_run in predicted if of_run is not None]
    return MethodResult(
        name=name,
        entries=kept,
        scores=values,
        interval=score_interval(values, per_example, key.metric, kept[0].rows.get(key.split)),
        per_example=per_example,
        predicted=np.array(all_predicted) if len(all_predicted) == len(kept) else None,
        costs=_costs(kept),
    )


def _costs(entries: Sequence[Entry]) -> Costs:
    costs = {}
    for name in COST_NAMES:
        values = [value for entry in entries if (value := getattr(entry.costs, name)) is not None]
        of_seeds = np.max if name == "peak_memory_bytes" else np.mean
        costs[name] = float(of_seeds(values)) if values else None
    return Costs(**costs)
