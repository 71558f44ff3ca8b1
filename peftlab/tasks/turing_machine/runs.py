"""Runs of machines that a model went through step by step, and what each contributes to a metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.statistics.crossed import Floats


@dataclass(frozen=True)
class MachineRun:
    """A run of a machine as a model wrote it.

    Args:
        number: Of the run in its split.
        tape_length: Cells of the first tape.
        right: Of each step: whether it was right, given the right configuration before.
    """

    number: int
    tape_length: int
    right: Sequence[bool]

    @property
    def survived(self) -> int:
        """Steps before the first error: so far a model comes that goes on from what it wrote itself."""
        return self.right.index(False) if False in self.right else len(self.right)


def machine_runs(scores: Iterable[Sequence[float]]) -> list[MachineRun]:
    """Put runs together from their steps.

    Args:
        scores: Of each example, in any order: the run's number, its first step, the tape's length, and 1 or 0 for each
            step, as the task ``turing_machine`` stores them.

    Returns:
        The runs by number.
    """
    steps: dict[int, dict[int, bool]] = defaultdict(dict)
    lengths: dict[int, int] = {}
    for run, first, length, *right in scores:
        lengths[int(run)] = int(length)
        steps[int(run)].update({int(first) + offset: value > 0.5 for offset, value in enumerate(right)})
    return [MachineRun(run, lengths[run], [right for _, right in sorted(steps[run].items())]) for run in sorted(steps)]


def scores_of_runs(metric: str, runs: Sequence[MachineRun]) -> Floats | None:
    """One value a run whose mean is the metric; None for metrics that are not of runs.

    Steps of one run are no independent draws, so that runs are what an interval is over. The share of right steps is a
    ratio of two means R = Σ rᵢ / Σ nᵢ; its values are R + (rᵢ − R·nᵢ) / mean(n), by linearisation (Cochran, Sampling
    Techniques, 1977, section 6.3).

    Args:
        metric: Its name, as in a record's scores.
        runs: One at least.
    """
    return None if metric not in OF_RUNS else np.asarray(OF_RUNS[metric](runs), dtype=np.float64)


def _steps_right(runs: Sequence[MachineRun]) -> Floats:
    right = np.array([sum(run.right) for run in runs], dtype=np.float64)
    steps = np.array([len(run.right) for run in runs], dtype=np.float64)
    ratio = right.sum() / steps.sum()
    return np.asarray(ratio + (right - ratio * steps) / steps.mean())


OF_RUNS: Mapping[str, Callable[[Sequence[MachineRun]], Sequence[float] | Floats]] = {
    "step_exact_match": _steps_right,
    "run_exact_match": lambda runs: [float(all(run.right)) for run in runs],
    "steps_survived": lambda runs: [float(run.survived) for run in runs],
    "survived_fraction": lambda runs: [run.survived / len(run.right) for run in runs],
}
