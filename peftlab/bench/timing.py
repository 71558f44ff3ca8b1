"""How long a suite will take: a rough count of FLOPs, corrected by the suite's own runs as soon as there are any."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from peftlab.preparation.check import CheckedRecipe
from peftlab.recipe.schema import Recipe

PROCESS_SECONDS = 20.0
"""What a run costs beside its batches: imports, loading, measuring, saving."""
CHARACTERS_PER_TOKEN = 4.0
FLOPS_PER_SECOND_AND_CORE = 4e10
FLOPS_PER_SECOND_ON_GPU = 2e13


@dataclass(frozen=True)
class Workload:
    """What is known of a suite's data and model before anything runs.

    Args:
        linear_parameters: Weights that every token is multiplied with.
        tokens_per_example: Guessed from the texts' characters.
        rows: Of each split.
    """

    linear_parameters: int
    tokens_per_example: float
    rows: Mapping[str, int]

    @classmethod
    def of(cls, checked: CheckedRecipe) -> Workload:
        """From a checked recipe."""
        facts, train = checked.facts, checked.data.splits["train"]
        weights = facts.weights or {}
        linear = sum(int(np.prod(weights[f"{name}.weight"])) for name in facts.linear_modules())
        characters = sum(
            len(str(text)) for column in checked.recipe.task.text_columns() for text in train.columns[column]
        )
        tokens = characters / len(train) / CHARACTERS_PER_TOKEN + 2
        longest = getattr(checked.recipe.task, "max_length", None) or tokens
        return cls(linear, min(tokens, longest), checked.data.summary.rows)

    def flops(self, recipe: Recipe) -> float:
        """Of a whole run: two per weight and token forward, two more for what flows back, two more for gradients."""
        training, trains_base = recipe.training, recipe.method.trains_base
        rows = min(self.rows["train"], recipe.train_rows or self.rows["train"])
        if recipe.data is not None:
            rows *= 1 + sum(each.copies for each in recipe.data.augmentation if each.rows == "train")
        epochs = training.epochs or 1
        trained = rows * epochs
        if training.max_steps is not None and training.batch_size is not None:
            trained = min(
                trained if training.epochs else 10**12,
                training.max_steps * training.batch_size * training.gradient_accumulation_steps,
            )
        scored = self.rows.get("validation", 0) * (epochs + 1)
        scored += self.rows.get("test", 0) if recipe.evaluation.test else 0
        passes = math.prod(each.passes_of(trains_base=trains_base) for each in training.regularizers)
        per_token = self.linear_parameters * ((6 if trains_base else 4) * trained * passes + 2 * scored)
        return per_token * self.tokens_per_example * _runs(recipe)


def _runs(recipe: Recipe) -> int:
    """How many runs a recipe is: with those that come first, such as teachers, and folds that look for wrong labels.

    A fold learns from all parts of the rows but one, so that all together learn from them once less than there are.
    """
    data, teachers = recipe.data, recipe.training.self_training
    folds = 1 if data is None or data.prune is None else data.prune.folds
    filters = data is not None and any(each.keep_if is not None for each in data.augmentation)
    return folds + filters + (0 if teachers is None else teachers.rounds)


@dataclass
class Clock:
    """Estimates the seconds of runs, the better the more of them it has seen.

    Args:
        workloads: For each point of the axes.
    """

    workloads: Mapping[tuple[str, ...], Workload]
    _ratios: dict[str, list[float]] = field(default_factory=dict)

    @property
    def is_rough(self) -> bool:
        """Whether no run of the suite has been timed yet."""
        return not self._ratios

    def learn(self, method: str, combination: tuple[str, ...], recipe: Recipe, seconds: float) -> None:
        """Take in how long a run of a method took."""
        self._ratios.setdefault(method, []).append(seconds / self._count(combination, recipe))

    def estimate(self, method: str, combination: tuple[str, ...], recipe: Recipe) -> float:
        """Seconds of a run, its process included."""
        everything = [ratio for ratios in self._ratios.values() for ratio in ratios]
        ratios = self._ratios.get(method) or everything or [1.0]
        return self._count(combination, recipe) * statistics.median(ratios)

    def _count(self, combination: tuple[str, ...], recipe: Recipe) -> float:
        return PROCESS_SECONDS + self.workloads[combination].flops(recipe) / _guess_flops_per_second()


def _guess_flops_per_second() -> float:
    """Of training, on this machine: torch, which could measure it, is not imported for an estimate."""
    if Path("/proc/driver/nvidia").exists():
        return FLOPS_PER_SECOND_ON_GPU
    return (os.cpu_count() or 1) * FLOPS_PER_SECOND_AND_CORE
