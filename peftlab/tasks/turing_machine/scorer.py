"""Scores of runs: how far a model goes before its first error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from peftlab.core.task import Prediction
from peftlab.tasks.turing_machine.runs import OF_RUNS, machine_runs


class SurvivalScorer:
    """Exact matches of steps and of whole runs, and the steps before the first error."""

    def __init__(self) -> None:
        self._scores: list[Sequence[float]] = []

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in steps, in any order."""
        self._scores += [item.scores for item in predictions]

    def compute(self) -> dict[str, float]:
        """All metrics: the first over all steps, the others over all runs."""
        runs = machine_runs(self._scores)
        return {metric: float(np.mean(values(runs))) for metric, values in OF_RUNS.items()}
