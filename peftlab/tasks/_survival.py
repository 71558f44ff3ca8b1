"""Scores of runs: how far a model goes before its first error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from peftlab.interfaces import Prediction


class SurvivalScorer:
    """Exact matches of steps and of whole runs, and the steps before the first error.

    A prediction's scores are the run's number, its first step, the tape's length, and 1 or 0 for each step.
    """

    def __init__(self) -> None:
        self._steps: dict[int, dict[int, bool]] = defaultdict(dict)

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in steps, in any order."""
        for item in predictions:
            run, first, _, *right = item.scores
            for offset, value in enumerate(right):
                self._steps[int(run)][int(first) + offset] = value > 0.5

    def compute(self) -> dict[str, float]:
        """All metrics: the first over all steps, the others over all runs."""
        runs = [[steps[number] for number in sorted(steps)] for steps in self._steps.values()]
        survived = [_before_first_error(run) for run in runs]
        steps = sum(map(len, runs))
        return {
            "step_exact_match": sum(map(sum, runs)) / steps,
            "run_exact_match": sum(map(all, runs)) / len(runs),
            "steps_survived": sum(survived) / len(runs),
            "survived_fraction": sum(count / len(run) for count, run in zip(survived, runs, strict=True)) / len(runs),
        }


def _before_first_error(run: list[bool]) -> int:
    return run.index(False) if False in run else len(run)
