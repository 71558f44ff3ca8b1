"""Whether a model still tells examples apart: one that answers all of them alike has collapsed, and is no success.

Accuracy can hide it: on data of which 95 % is one class, saying that class scores 0.95 and needs no training. So a
majority classifier fails, however unbalanced the data is. Whoever wants it all the same waives the guard.

A split must hold some labels that its most frequent one does not cover, else equal answers may be right, or chance: of
ten such examples, a model that finds each of them in one of two cases misses all with a probability of 0.1 %.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from peftlab.core.record import Guard
from peftlab.core.task import Prediction, Task
from peftlab.training.evaluation import TakesPredictions

FEWEST_STEPS = 50
"""A run of fewer steps may not have learned yet: it is a trial of the recipe, and that is no fault."""
LEAST_SPREAD = 0.01
"""Predicted numbers whose spread is below this share of the targets' spread are one number."""


class AnswerWatch:
    """Passes predictions on, and notes for each split whether they differ.

    Args:
        task: Says what a prediction decides.
        writer: Takes the predictions.
    """

    def __init__(self, task: Task, writer: TakesPredictions) -> None:
        self._task, self._writer = task, writer
        self._splits: dict[str, _Answers] = {}

    def write(self, split: str, index: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Take in a batch."""
        self._writer.write(split, index, predictions)
        answers = self._splits.setdefault(split, _Answers(self._task.fewest_decisions))
        for prediction in predictions:
            for label, answer in self._task.decisions(prediction):
                answers.add(label, answer)

    def result(self, *, steps: int) -> Guard:
        """Whether the answers differ on every split that can tell.

        Args:
            steps: Of training.
        """
        if not any(answers.count for answers in self._splits.values()):
            return Guard.not_applicable("the task decides nothing by examples, or none was evaluated")
        alike = {name: said for name, answers in self._splits.items() if (said := answers.alike()) is not None}
        if not alike:
            return Guard.check(True, f"the answers differ on {', '.join(self._splits)}")
        detail = "; ".join(f"{name}: {said}" for name, said in alike.items())
        if steps < FEWEST_STEPS:
            return Guard.not_applicable(f"{steps} steps are too few to tell ({detail})")
        if not any(self._splits[name].tells for name in alike):
            return Guard.not_applicable(f"too few examples of other labels to tell ({detail})")
        return Guard.check(False, f"the model answers everything alike: {detail}")


class _Answers:
    """Answers to one split, as they come.

    Args:
        fewest: Decisions with another label than the most frequent one, without which equal answers tell nothing.
    """

    def __init__(self, fewest: int) -> None:
        self.count, self._fewest = 0, fewest
        self._labels: Counter[Any] = Counter()
        self._first: Any = None
        self._differ = False
        self._numbers: tuple[_Spread, _Spread] = (_Spread(), _Spread())

    def add(self, label: Any, answer: Any) -> None:
        self.count += 1
        if isinstance(answer, float):
            self._numbers[0].add(float(label))
            self._numbers[1].add(answer)
            return
        if self._differ:
            return
        if self.count == 1:
            self._first = answer
        self._differ = answer != self._first
        self._labels[label] += 1

    @property
    def tells(self) -> bool:
        """Whether there are labels enough that equal answers cannot be right for."""
        if self._numbers[0].count:
            return self._numbers[0].count > self._fewest
        return self._others() >= self._fewest

    def alike(self) -> str | None:
        """What all answers are where labels differ, in words; None where the answers differ, or the labels do not."""
        targets, predicted = self._numbers
        if targets.count:
            if targets.spread() == 0 or predicted.spread() >= LEAST_SPREAD * targets.spread():
                return None
            return f"all {targets.count} numbers are within {predicted.spread():.2g} of {predicted.mean:.3g}"
        if self.count < 2 or self._differ or not self._others():
            return None
        wrong = self.count - self._labels[self._first]
        others = "1 label is another" if wrong == 1 else f"{wrong} labels are others"
        return f"all {self.count} answers are {str(self._first)[:60]!r}, where {others}"

    def _others(self) -> int:
        return sum(self._labels.values()) - max(self._labels.values(), default=0)


class _Spread:
    """Mean and standard deviation of numbers as they come (Welford 1962)."""

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self._squares += step * (value - self.mean)

    def spread(self) -> float:
        return math.sqrt(self._squares / self.count) if self.count else 0.0
