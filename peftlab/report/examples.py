"""The predictions of all methods of a comparison, on the same examples and in the same codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.core.errors import UserError, first_line
from peftlab.core.metric import METRICS
from peftlab.core.plugins import OWN
from peftlab.core.report_parts import Units
from peftlab.report.entry import Entry
from peftlab.report.plugin_faults import fault_in_words
from peftlab.report.predictions import Coded, Column, Predictions, read_predictions
from peftlab.report.units import read_units

AGREEMENT = 1e-4
"""Scores are kept in 32 bits in places; a record and its predictions agree to this."""
MEANS = frozenset({"accuracy", "mean_squared_error", "mean_absolute_error"})
"""Metrics that are means over the examples, so that a record must agree with its predictions; as those of units are."""


@dataclass
class ExampleTable:
    """The examples that the methods of a comparison were tested on.

    Args:
        index: Row of each example in the source table.
        truth: Codes of the true labels; or the numbers themselves.
        values: What the codes stand for: strings, or tuples of strings; empty for numbers.
        has_units: Whether these are a task's own units instead of examples, whose numbers are no answers.
        fault: What a plugin's metric has raised, in a sentence; empty: nothing.
    """

    index: NDArray[np.int64] | None = None
    truth: NDArray[Any] | None = None
    codes: dict[Any, int] = field(default_factory=dict)
    has_units: bool = False
    fault: str = ""

    @property
    def values(self) -> list[Any]:
        """What the codes stand for."""
        return list(self.codes)

    @property
    def numeric(self) -> bool:
        """Whether labels are numbers."""
        return self.truth is not None and self.truth.dtype.kind == "f"

    def read(self, entry: Entry, split: str, metric: str) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None]:
        """A run's predictions in the table's codes, and what each contributes to the metric.

        Raises:
            UserError: The file is damaged, holds other examples than the other runs', or contradicts the record.
        """
        units = read_units(entry.path, entry.task, split)
        found = read_predictions(entry.path, split) if units is None else _as_predictions(units)
        if found is None:
            return None, None
        if isinstance(found.labels, Coded) != isinstance(found.predictions, Coded):
            raise UserError("its labels are numbers and its predictions none, or the other way round")
        self.has_units = self.has_units or units is not None
        truth, predicted = self._encode(found.labels), self._encode(found.predictions)
        if self.index is not None:
            self._check_same_examples(found, truth)
        scores = self._contributions(metric, truth, predicted) if units is None else units.per_unit(metric)
        if scores is not None and not np.isfinite(scores).all():
            raise UserError(f"its predictions give no finite {metric} on {split}")
        recorded = entry.scores[split][metric]
        is_mean = metric in MEANS or units is not None
        if scores is not None and is_mean and abs(scores.mean() - recorded) > AGREEMENT * max(1, abs(recorded)):
            raise UserError(
                f"the record says {metric} {recorded:.6g} on {split}, its predictions say {scores.mean():.6g}"
            )
        if self.index is None:  # a run that is left out does not say what the others are held against
            self.index, self.truth = found.index, truth
        return predicted, scores if scores is None or len(scores) > 1 else None

    def _contributions(self, metric: str, truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64] | None:
        """What each example contributes; None where the metric has no such values, or a plugin fails to give them.

        Raises:
            UserError: The predictions are none of the kind that the metric judges.
        """
        try:
            found = METRICS[metric].per_example(self._plain(truth), self._plain(predicted))
            scores = None if found is None else np.asarray(found, dtype=np.float64)
            if scores is not None and scores.shape != truth.shape:
                raise ValueError(f"values of the shape {scores.shape} for {len(truth):,} examples")
        except Exception as error:  # noqa: BLE001 - a stranger's metric may raise anything; it is told
            if METRICS[metric].__module__.partition(".")[0] == OWN:
                raise UserError(f"its predictions give no {metric}: {first_line(error)}") from None
            self.fault = self.fault or fault_in_words(error, METRICS[metric].__module__)
            return None
        return scores

    def _encode(self, column: Column) -> NDArray[Any]:
        return column.recode(self.codes) if isinstance(column, Coded) else column

    def _plain(self, codes: NDArray[Any]) -> Sequence[Any]:
        """Numbers and classes as they are compared; lists as lists."""
        values = [list(value) if isinstance(value, tuple) else value for value in self.values]
        return [values[code] for code in codes] if values else list(codes.tolist())

    def _check_same_examples(self, found: Predictions, truth: NDArray[Any]) -> None:
        if not np.array_equal(self.index, found.index) or not np.array_equal(self.truth, truth):  # type: ignore[arg-type]
            raise UserError("its predictions are for other examples than those of the other runs")


def _as_predictions(units: Units) -> Predictions:
    return Predictions(
        np.array(units.index, dtype=np.int64),
        np.array(units.labels, dtype=np.float64),
        np.array(units.predictions, dtype=np.float64),
    )
