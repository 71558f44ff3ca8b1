"""Was the tuning budget enough? The score that k trials can be expected to find."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftlab.report.suites import TuningResult

EDGE = 0.05
"""A setting within this share of the range's logarithm is at its edge."""


@dataclass(frozen=True)
class BudgetCurve:
    """Expected best score on the validation split after 1, 2, … trials."""

    cell: str
    metric: str
    expected: Sequence[float]
    failed: int

    @property
    def last_gain(self) -> float | None:
        """What the last trial added; None for a single trial."""
        return abs(self.expected[-1] - self.expected[-2]) if len(self.expected) > 1 else None


def budget_curve(result: TuningResult) -> BudgetCurve | None:
    """Expected best of k trials, drawn with replacement from those of the first rung, which all trials reached.

    Dodge et al., Show Your Work: Improved Reporting of Experimental Results (EMNLP 2019), equation 1. A trial that
    failed counts as the worst score that another one got.

    Returns:
        None where no trial has a score.
    """
    trials = result.rungs[0].trials if result.rungs else []
    scores = [trial.score for trial in trials if trial.score is not None and math.isfinite(trial.score)]
    if not scores:
        return None
    failed = len(trials) - len(scores)
    worst = min(scores) if result.higher_is_better else max(scores)
    expected = expected_best([*scores, *[worst] * failed], higher_is_better=result.higher_is_better)
    return BudgetCurve(result.cell, result.metric, expected, failed)


def expected_best(scores: Sequence[float], *, higher_is_better: bool = True) -> list[float]:
    """Expected best of 1, 2, …, n draws with replacement from n scores."""
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if not higher_is_better:
        values = values[::-1]
    count = len(values)
    shares = np.arange(count + 1) / count
    return [float(values @ np.diff(shares**draws)) for draws in range(1, count + 1)]


def doubts(result: TuningResult, tuning: Mapping[str, Any] | None) -> str | None:
    """A sentence where the search may not have found what suits the cell; None where nothing speaks against it."""
    return all_alike(result) or at_edge(result, tuning)


def all_alike(result: TuningResult) -> str | None:
    """A sentence where several trials have one score, so that none was better than another."""
    scores = [trial.score for trial in result.rungs[0].trials] if result.rungs else []
    if len(scores) < 2 or None in scores or len(set(scores)) > 1:
        return None
    return (
        f"{result.cell}: all {len(scores)} trials have the same {result.metric}, so tuning chose nothing; longer "
        "training, or another range, may do better."
    )


def at_edge(result: TuningResult, tuning: Mapping[str, Any] | None) -> str | None:
    """A sentence where the chosen learning rate lies at an end of the range that was searched."""
    chosen = result.chosen.get("training.learning_rate")
    limits = (tuning or {}).get("learning_rate")
    if not isinstance(chosen, int | float) or chosen <= 0 or not limits or limits[0] == limits[1]:
        return None
    low, high = math.log(limits[0]), math.log(limits[1])
    place = (math.log(chosen) - low) / (high - low)
    if EDGE < place < 1 - EDGE:
        return None
    end = "lower" if place <= EDGE else "upper"
    return (
        f"{result.cell}: the chosen learning rate {chosen:.2g} is at the {end} end of the range that was searched; "
        "a wider range may do better."
    )
