"""Two runs of one recipe, example by example: is a difference between their scores more than chance?

Both runs answered the same examples, so that what counts is how their answers differ on each: the test is the one
between methods (``statistics/pairs.py``). A metric that is a mean over examples is tested on its values, any other on
values of groups of examples that are left out in turn (``statistics/resampling.py``).

The test is over the examples. What training makes of another machine's rounding is not in it. As a measure of that:
between runs that differ in nothing but the seed, on 2,000 examples, the test finds a difference in 5 to 20 % of the
pairs (full tuning, LoRA, prefix tuning and the linear probe of ``benchmarks/results/tweet_sentiment_four``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.core.task import Prediction, Scorer
from peftlab.measurement.example_intervals import example_values, interval_notes
from peftlab.statistics.pairs import compare_all
from peftlab.statistics.resampling import group_values

if TYPE_CHECKING:
    import pyarrow as pa

    from peftlab.statistics.crossed import Floats

CONTRADICTION = 1e-4
"""Scores are kept in 32 bits in places; a record and its predictions agree to this, relative to the score."""

UNCOMPUTABLE = (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError)
"""What a task's metrics raise on predictions that are not theirs, such as labels that the record does not know."""

MakeScorer = Callable[[], Scorer]


@dataclass(frozen=True)
class Difference:
    """How far two scores are apart: the new one less the old one."""

    difference: float
    low: float
    high: float
    p_value: float
    notes: tuple[str, ...] = ()
    """Where the interval is too narrow, and why."""


@dataclass(frozen=True)
class Unjudged:
    """Why two scores cannot be compared."""

    reason: str


@dataclass(frozen=True)
class Answers:
    """What a run answered on one split, by example."""

    index: Sequence[int]
    predictions: Sequence[Prediction]


def read_answers(table: pa.Table | None, split: str) -> Answers | None:
    """A run's answers on a split, in an order that does not depend on the run; None where it has stored none."""
    if table is None:
        return None
    rows = [row for row in table.to_pylist() if row["split"] == split]
    if not rows:
        return None
    rows.sort(key=lambda row: (row["index"], repr(row["label"]), repr(row["prediction"]), repr(row.get("scores"))))
    predictions = [Prediction(row["label"], row["prediction"], row.get("scores") or []) for row in rows]
    return Answers([row["index"] for row in rows], predictions)


class PairedAnswers:
    """The answers of two runs on the same examples of a split.

    Args:
        before: Of the record.
        now: Of the run made again.
        make_scorer: Gives the task's metrics.
    """

    def __init__(self, before: Answers, now: Answers, make_scorer: MakeScorer) -> None:
        self.before, self.now, self._make_scorer = before, now, make_scorer

    @property
    def mismatch(self) -> str | None:
        """Why these are not the same examples; None where they are."""
        if len(self.before.index) != len(self.now.index):
            return f"the record holds {len(self.before.index)} predictions, the new run {len(self.now.index)}"
        other = sum(a != b for a, b in zip(self.before.index, self.now.index, strict=True))
        if other:
            return f"{other} of {len(self.before.index)} predictions are of other rows"
        labels = sum(a.label != b.label for a, b in self._pairs)
        return f"{labels} of {len(self.before.index)} examples have another label" if labels else None

    @property
    def identical(self) -> bool:
        """Whether all answers are the same to the last bit of their scores."""
        return self.mismatch is None and all(a == b for a, b in self._pairs)

    @property
    def same(self) -> int:
        """On how many examples both runs predict the same."""
        return sum(a.prediction == b.prediction for a, b in self._pairs)

    @property
    def _pairs(self) -> list[tuple[Prediction, Prediction]]:
        return list(zip(self.before.predictions, self.now.predictions, strict=True))

    @cached_property
    def recomputed(self) -> tuple[Mapping[str, float], Mapping[str, float]] | Unjudged:
        """All metrics of both, from the stored answers."""
        try:
            return self._compute(self.before.predictions), self._compute(self.now.predictions)
        except UNCOMPUTABLE as error:
            return Unjudged(f"the metrics cannot be computed from the stored predictions: {error!r}")

    def compare(self, metric: str) -> Difference | Unjudged:
        """Test the difference of a metric between the two."""
        if isinstance(self.recomputed, Unjudged):
            return self.recomputed
        values = self._example_values(metric, self.recomputed)
        try:
            values = self._values_of_groups(metric) if values is None else values
        except UNCOMPUTABLE as error:
            return Unjudged(f"the metrics cannot be computed without some of the examples: {error!r}")
        if values is None:
            return Unjudged(f"{metric} has no value without some of the examples, or there are too few of them")
        found = compare_all([values[1][None, :], values[0][None, :]])
        numbers = (found.difference[0, 1], found.low[0, 1], found.high[0, 1], found.p_value[0, 1])
        if not np.isfinite(numbers).all():
            return Unjudged(f"the values of {metric} are too large for a test")
        notes = interval_notes([metric], [item.label for item in self.now.predictions], "the compared examples")
        difference, low, high, p_value = map(float, numbers)
        return Difference(difference, low, high, p_value, notes)

    def _compute(self, predictions: Sequence[Prediction]) -> Mapping[str, float]:
        scorer = self._make_scorer()
        scorer.add(predictions)
        return scorer.compute()

    def _example_values(
        self, metric: str, recomputed: tuple[Mapping[str, float], Mapping[str, float]]
    ) -> tuple[Floats, Floats] | None:
        """One value an example, where the metric is their mean and each row of the table is one example."""
        if len(set(self.before.index)) < max(2, len(self.before.index)):
            return None
        found = []
        for answers, scores in zip((self.before, self.now), recomputed, strict=True):
            labels, predictions = zip(*((item.label, item.prediction) for item in answers.predictions), strict=True)
            values = example_values(metric, labels, predictions)
            if values is None or not agree(float(values.mean()), scores[metric]):
                return None
            found.append(values)
        return found[0], found[1]

    def _values_of_groups(self, metric: str) -> tuple[Floats, Floats] | None:
        before, now = self._groups
        return (before[metric], now[metric]) if metric in before and metric in now else None

    @cached_property
    def _groups(self) -> tuple[dict[str, Floats], dict[str, Floats]]:
        return self._groups_of(self.before), self._groups_of(self.now)

    def _groups_of(self, answers: Answers) -> dict[str, Floats]:
        return group_values(
            lambda positions: self._compute([answers.predictions[at] for at in positions]), answers.index
        )


def agree(score: float, other: Any) -> bool:
    """Whether two computations of a score are the same but for rounding."""
    return isinstance(other, float | int) and abs(score - other) <= CONTRADICTION * max(abs(score), abs(other), 1e-12)
