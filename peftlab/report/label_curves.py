"""Label curves: of each method the score by the number of labelled rows, and how far it is from chance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from peftlab.core.amounts import plural
from peftlab.core.metric import METRICS, possible_difference
from peftlab.core.selection import labels_name
from peftlab.report import wording
from peftlab.report.entry import Entry
from peftlab.report.estimates import Estimate, bounded, estimate, shown_points, shown_score
from peftlab.report.figure_set import Figure, means_figure
from peftlab.report.suites import SuiteInfo
from peftlab.report.table import Cell, Table
from peftlab.report.titles import title_within_suite
from peftlab.report.wording import lower_is_better
from peftlab.statistics.intervals import differ, seeds_interval

CHANCE = "random"
"""The strategy that others are compared with."""


@dataclass(frozen=True)
class LabelCurve:
    """A method.

    Args:
        name: As the suite calls it.
        scores: By the number of labels, the score of each seed.
        differences: By the number of labels, the difference of each seed to the method that chooses by chance, as far
            as both have it; nothing where it is that method, or there is none.
    """

    name: str
    scores: Mapping[int, Mapping[int, float]]
    differences: Mapping[int, Sequence[float]]

    def mean(self, labels: int, metric: str) -> Estimate | None:
        """The mean over the seeds."""
        return bounded(estimate(list(self.scores[labels].values())), metric) if self.scores.get(labels) else None

    def to_chance(self, labels: int, metric: str) -> Estimate | None:
        """The mean difference to the method that chooses by chance; its interval ends where differences do."""
        if not self.differences.get(labels):
            return None
        found, most = estimate(self.differences[labels]), possible_difference(metric)
        if found.low is None or found.high is None:
            return found
        return Estimate(found.mean, max(found.low, -most), min(found.high, most))


@dataclass(frozen=True)
class LabelCurves:
    """A suite's label curves at one point of its axes.

    Args:
        suite: Its name.
        axis: The values of the other axes.
        labels: Numbers of labelled rows that any run has reached.
        metric: Of all scores.
        split: Of all scores.
        chance: Name of the method that chooses by chance; None: there is none.
        methods: The best mean at the most labels first.
        missing: Which runs are left out, and why.
    """

    suite: str
    axis: str
    labels: Sequence[int]
    metric: str
    split: str
    chance: str | None
    methods: Sequence[LabelCurve]
    missing: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What tells it from others."""
        return title_within_suite(self.suite, self.axis)


def label_curves(entries: Sequence[Entry], suites: Sequence[SuiteInfo]) -> list[LabelCurves]:
    """The label curves of the suites, each of the runs that have a score in its metric."""
    found = []
    for suite in suites:
        points: dict[str, list[tuple[int, Entry]]] = defaultdict(list)
        numbers = {labels_name(labels): labels for labels in suite.labels}
        for entry in entries if numbers else []:
            axis, _, last = entry.axis.rpartition("--")
            if entry.suite == suite.folder and last in numbers and entry.has_scores:
                points[axis].append((numbers[last], entry))
        found += [curves for axis, own in points.items() if (curves := _curves(suite, axis, own)) is not None]
    return found


def _curves(suite: SuiteInfo, axis: str, points: Sequence[tuple[int, Entry]]) -> LabelCurves | None:
    ((metric, _),) = Counter(entry.metric for _, entry in points).most_common(1)
    if metric not in METRICS.names():  # of another peftlab: nobody knows which end is the better one
        return None
    of_splits = [name for _, entry in points for name in ("test", "validation") if metric in entry.scores.get(name, {})]
    if not of_splits:
        return None
    split = max(("test", "validation"), key=of_splits.count)
    missing = [
        f"{entry.name}, seed {entry.seed}, has no {metric} on the {split} split"
        for _, entry in points
        if metric not in entry.scores.get(split, {})
    ]
    points = [point for point in points if metric in point[1].scores.get(split, {})]
    scores: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for labels, entry in points:
        scores[entry.method][labels][entry.seed] = entry.scores[split][metric]
    chance = next((name for name in scores if suite.strategies.get(name) == CHANCE), None)
    methods = [
        LabelCurve(name, own, {} if chance is None or name == chance else _differences(own, scores[chance]))
        for name, own in scores.items()
    ]
    reached = [labels for labels in suite.labels if any(own.get(labels) for own in scores.values())]
    sign, most = 1 if lower_is_better(metric) else -1, reached[-1]
    methods.sort(key=lambda each: sign * mean.mean if (mean := each.mean(most, metric)) else float("inf"))
    return LabelCurves(suite.name, axis, reached, metric, split, chance, methods, missing)


def _differences(
    own: Mapping[int, Mapping[int, float]], chance: Mapping[int, Mapping[int, float]]
) -> dict[int, list[float]]:
    return {
        labels: [score - chance[labels][seed] for seed, score in scores.items() if seed in chance.get(labels, {})]
        for labels, scores in own.items()
    }


def label_curves_json(found: Sequence[LabelCurves]) -> list[dict[str, Any]]:
    """The curves for programs."""
    return [
        {
            "suite": each.suite,
            "axis": each.axis,
            "labels": list(each.labels),
            "metric": each.metric,
            "split": each.split,
            "chance": each.chance,
            "methods": {
                method.name: {
                    "scores": {str(labels): dict(own) for labels, own in method.scores.items()},
                    "to_chance": {
                        str(labels): asdict(own)
                        for labels in each.labels
                        if (own := method.to_chance(labels, each.metric))
                    },
                }
                for method in each.methods
            },
            "missing": list(each.missing),
        }
        for each in found
    ]


def label_headline(found: LabelCurves) -> str:
    """What the curves came to, in a sentence."""
    best, most = found.methods[0], found.labels[-1]
    score = shown_score(best.mean(most, found.metric), found.metric)
    text = f"With {most:,} labels {best.name} has the best mean {found.metric}, {score}."
    if found.chance is None or len(found.methods) == 1:
        return text
    better = [method.name for method in found.methods if _is_better(method, found)]
    told = "no strategy is told apart from chance as better"
    if better:
        told = f"{', '.join(better)} {'is' if len(better) == 1 else 'are'} better than chance"
    return f"{text} There {told} (95 %, Bonferroni over {plural(len(found.methods) - 1, 'comparison')})."


def _is_better(method: LabelCurve, found: LabelCurves) -> bool:
    """At the most labels, by an interval that holds for all methods at once."""
    differences = method.differences.get(found.labels[-1], ())
    if not differ(differences):
        return False
    interval = seeds_interval(differences, 1 - 0.05 / (len(found.methods) - 1))
    return interval.high < 0 if lower_is_better(found.metric) else interval.low > 0


def label_table(found: LabelCurves) -> Table:
    """The mean of each method at each number of labels, and its difference to chance."""
    columns, rows = ["method", "seeds"], list[list[Cell]]()
    compared = found.labels[1:] if found.chance is not None else ()  # all have the same rows at first
    for labels in found.labels:
        columns += [f"{labels:,} labels"] + [f"to {found.chance}"] * (labels in compared)
    for method in found.methods:
        seeds = {seed for own in method.scores.values() for seed in own}
        row: list[Cell] = [method.name, str(len(seeds))]
        for labels in found.labels:
            row.append(shown_score(method.mean(labels, found.metric), found.metric))
            if labels in compared:
                row.append(shown_points(method.to_chance(labels, found.metric), found.metric))
        rows.append(row)
    note = (
        f"Mean {found.metric} on the {found.split} split with 95 % intervals over the seeds, which draw the first "
        f"labels; differences in {wording.unit_of_points(found.metric)}, in pairs over the seeds. All methods begin "
        "with the same rows. Each interval holds for itself: of twenty, one misses by chance."
    )
    if found.missing:
        note += f" Left out: {wording.listing(found.missing)}."
    return Table("Score by the number of labels", columns, rows, note)


def label_figure(found: LabelCurves) -> Figure:
    """The means, drawn."""
    methods = [
        (method.name, [(labels, own.mean) for labels in found.labels if (own := method.mean(labels, found.metric))])
        for method in found.methods
    ]
    title = "Score by the number of labels"
    return means_figure(title, "labelled rows", f"mean {found.metric}", found.metric, methods)
