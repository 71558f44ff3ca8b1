"""Tasks in a row: of each method the matrix of scores, and what it has kept, as means over the seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.core.metric import METRICS
from peftlab.core.past import EARLIER_TEST
from peftlab.report.entry import Entry
from peftlab.report.estimates import Estimate, bounded, estimate
from peftlab.report.suites import SuiteInfo
from peftlab.report.titles import title_within_suite
from peftlab.report.wording import lower_is_better
from peftlab.statistics.continual import sequence_figures

Matrix = NDArray[np.float64]
JOINT = {"continues.replay": 1, "continues.weights": False}
"""Settings by which each run learns all tasks so far together, from the base."""


@dataclass(frozen=True)
class LearnedSequence:
    """What a method came to.

    Args:
        name: As the suite calls it.
        seeds: Those that have learned all tasks.
        scores: Seeds × tasks × tasks: on task j after task i was learned. Just above the diagonal before it was
            learned; NaN further above.
        figures: Those of ``SequenceFigures`` by name; ``learned``, the mean score on each task just after it was
            learned; and ``of_joint``, the mean as a share of that of training on all rows together, where the suite has
            such a method. One that is not known is missing.
        routed_right: Share of the rows that the router gave to the run of their own task, at the end; None: no router.
    """

    name: str
    seeds: Sequence[int]
    scores: Matrix
    figures: Mapping[str, Estimate]
    routed_right: Estimate | None = None

    @property
    def matrix(self) -> Matrix:
        """Means over the seeds, tasks × tasks."""
        mean: Matrix = self.scores.mean(axis=0)
        return mean

    @property
    def so_far(self) -> list[float]:
        """After each task, the mean score on the tasks that were learned."""
        return [float(self.matrix[at, : at + 1].mean()) for at in range(len(self.matrix))]


@dataclass(frozen=True)
class LearnedTasks:
    """A suite's sequence at one point of its axes.

    Args:
        suite: Its name.
        axis: The values of the axes.
        tasks: In their order.
        metric: Of all scores.
        methods: Best mean first.
        missing: Which chains of runs are left out, and why.
    """

    suite: str
    axis: str
    tasks: Sequence[str]
    metric: str
    methods: Sequence[LearnedSequence]
    missing: Sequence[str]

    @property
    def title(self) -> str:
        """What tells it from others."""
        return title_within_suite(self.suite, self.axis)


def learned_tasks(entries: Sequence[Entry], suites: Sequence[SuiteInfo]) -> list[LearnedTasks]:
    """The sequences of the suites, those that at least one method has come through."""
    found = []
    for suite in suites:
        groups: dict[str, dict[tuple[str, int], dict[str, Entry]]] = defaultdict(lambda: defaultdict(dict))
        for entry in entries if suite.sequence else []:
            axis, _, task = entry.axis.rpartition("--")
            if entry.suite == suite.folder and task in suite.sequence:
                groups[axis][entry.method, entry.seed][task] = entry
        found += [_learned(suite, axis, chains) for axis, chains in groups.items()]
    return [each for each in found if each.methods]


Chains = dict[tuple[str, int], list[Entry]]
"""Of each method and seed its runs, in the order of the tasks."""


def _whole_chains(
    tasks: Sequence[str], chains: Mapping[tuple[str, int], Mapping[str, Entry]]
) -> tuple[Chains, str, list[str]]:
    """The chains that can be compared, what all are judged by, and why others are left out."""
    whole: Chains = {}
    missing = []
    for (method, seed), by_task in chains.items():
        lost = next((task for task in tasks if task not in by_task or not by_task[task].has_scores), None)
        if lost is None:
            whole[method, seed] = [by_task[task] for task in tasks]
        else:
            missing.append(f"{method}, seed {seed}: the run on {lost} has no result")
    metrics = {entry.metric for chain in whole.values() for entry in chain}
    if len(metrics) > 1:
        missing.append(f"the runs were judged by different metrics: {', '.join(sorted(metrics))}")
        whole = {}
    unknown = sorted(metrics - set(METRICS.names()))
    if unknown:
        missing.append(f"the metric {unknown[0]} is not known here")
        whole, metrics = {}, set()
    return whole, metrics.pop() if metrics else "", missing


def _learned(suite: SuiteInfo, axis: str, chains: Mapping[tuple[str, int], Mapping[str, Entry]]) -> LearnedTasks:
    tasks = list(suite.sequence)
    whole, metric, missing = _whole_chains(tasks, chains)
    untrained: dict[int, list[float]] = {}
    matrices: dict[str, dict[int, Matrix]] = defaultdict(dict)
    for (method, seed), chain in whole.items():
        try:
            matrices[method][seed] = _matrix(chain, metric)
            start = [_start(entry, metric) for entry in chain]
        except KeyError as error:
            missing.append(f"{method}, seed {seed}: a run has no score {error} for all tasks before it")
            continue
        if all(value is not None for value in start[1:]):
            untrained.setdefault(seed, [float("nan"), *[value for value in start[1:] if value is not None]])
    joint = next(
        (m for (m, _), chain in whole.items() if all(chain[-1].settings.get(k) == v for k, v in JOINT.items())), None
    )
    means = {seed: float(scores[-1].mean()) for seed, scores in matrices.get(joint or "", {}).items()}
    methods = [
        _method(name, own, [whole[name, seed] for seed in own], metric, untrained, means)
        for name, own in matrices.items()
    ]
    sign = 1 if metric and lower_is_better(metric) else -1
    methods.sort(key=lambda each: sign * each.figures["mean"].mean)
    return LearnedTasks(suite.name, axis, tasks, metric, methods, missing)


def _matrix(chain: Sequence[Entry], metric: str) -> Matrix:
    """Of one seed.

    Raises:
        KeyError: A run lacks a score.
    """
    scores = np.full((len(chain), len(chain)), np.nan)
    for at, entry in enumerate(chain):
        own = entry.routed.scores if entry.routed is not None else entry.scores
        scores[at, at] = own["test"][metric]
        for before in range(at):
            scores[at, before] = own[f"{EARLIER_TEST}{before + 1}"][metric]
        if at and entry.routed is not None:
            scores[at - 1, at] = entry.routed.before[metric]
        elif at and entry.earlier is not None and "test" in entry.earlier.scores:
            scores[at - 1, at] = entry.earlier.scores["test"][metric]
    return scores


def _start(entry: Entry, metric: str) -> float | None:
    """Of the model before any training, where the run has measured it."""
    return None if entry.earlier is None else entry.earlier.start_scores.get("test", {}).get(metric)


def _method(
    name: str,
    matrices: Mapping[int, Matrix],
    chains: Sequence[Sequence[Entry]],
    metric: str,
    untrained: Mapping[int, Sequence[float]],
    joint: Mapping[int, float],
) -> LearnedSequence:
    sign = -1 if lower_is_better(metric) else 1
    values: dict[str, list[float]] = defaultdict(list)
    for seed, scores in matrices.items():
        start = untrained.get(seed)
        found = sequence_figures(sign * scores, None if start is None else sign * np.array(start))
        values["mean"].append(sign * found.mean)
        for figure in ("forgetting", "backward", "forward"):
            values[figure].append(getattr(found, figure))
        values["learned"].append(float(np.diagonal(scores).mean()))
        if joint.get(seed):
            values["of_joint"].append(sign * found.mean / joint[seed])
    right = [float(np.mean(list(chain[-1].routed.right.values()))) for chain in chains if chain[-1].routed is not None]
    return LearnedSequence(
        name,
        list(matrices),
        np.array(list(matrices.values())),
        {key: _estimate(key, own, metric) for key, own in values.items() if np.isfinite(own).all()},
        estimate(right) if len(right) == len(chains) else None,
    )


def _estimate(figure: str, values: Sequence[float], metric: str) -> Estimate:
    found = estimate(values)
    return bounded(found, metric) if figure in ("mean", "learned") else found


def sequences_json(found: Sequence[LearnedTasks]) -> list[dict[str, Any]]:
    """The sequences for programs; in ``matrix`` null stands for what was not measured."""
    return [
        {
            "suite": each.suite,
            "axis": each.axis,
            "tasks": list(each.tasks),
            "metric": each.metric,
            "methods": {
                method.name: {
                    "seeds": list(method.seeds),
                    "figures": {
                        name: {"mean": own.mean, "interval": [own.low, own.high]}
                        for name, own in method.figures.items()
                    },
                    "matrix": [[None if np.isnan(v) else float(v) for v in row] for row in method.matrix],
                    "matrices": [
                        [[None if np.isnan(v) else float(v) for v in row] for row in scores] for scores in method.scores
                    ],
                    "routed_right": method.routed_right.mean if method.routed_right else None,
                }
                for method in each.methods
            },
            "missing": list(each.missing),
        }
        for each in found
    ]
