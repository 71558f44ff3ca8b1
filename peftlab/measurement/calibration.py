"""Scores that can be taken for probabilities: temperature scaling, and the expected calibration error.

A trained classifier is mostly too sure of itself. Dividing its logits by one number, fitted on the validation split,
mends the most of that and changes no decision (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peftlab.core.record import Calibration, CalibrationError
from peftlab.core.task import Task

BINS = 15
"""As in the paper."""
LOG_RANGE = (-3.0, 3.0)
"""The temperature is looked for between e⁻³ and e³."""

_INPUTS = frozenset({"input_ids", "token_type_ids", "pixel_values"})
"""Of a batch: what only the model reads."""

AT_BORDER = 0.01
"""A logarithm this near to the range's end is taken for the end."""


class LogitCollector:
    """Keeps the logits of a split, and of its batches what the loss and the predictions need."""

    def __init__(self) -> None:
        self.batches: list[tuple[Tensor, dict[str, Tensor]]] = []

    def __call__(self, logits: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Take in a batch."""
        without_text = {key: value for key, value in batch.items() if key not in _INPUTS}
        self.batches.append((logits.float(), without_text))


def calibrate(task: Task, kept: Mapping[str, LogitCollector], labels: tuple[str, ...]) -> Calibration | None:
    """Fit a temperature on the validation split and tell what it does to every split.

    Args:
        task: The log-likelihood of what is right is made greatest, whatever loss it learns by.
        kept: Logits by split.
        labels: Names of the classes.

    Returns:
        None where there is no validation split, or where scores are no probabilities.
    """
    if not task.has_probabilities or "validation" not in kept:
        return None
    temperature = fit_temperature(task, kept["validation"])
    not_fitted = _why_not(task, kept["validation"], temperature, labels)
    if not_fitted is not None:
        temperature = 1.0
    errors = {
        split: CalibrationError(
            uncalibrated=_error_of(task, collector, 1.0, labels),
            calibrated=_error_of(task, collector, temperature, labels),
        )
        for split, collector in kept.items()
    }
    return Calibration(temperature=temperature, not_fitted=not_fitted, expected_calibration_error=errors)


def _why_not(task: Task, kept: LogitCollector, temperature: float, labels: tuple[str, ...]) -> str | None:
    """Why the search's result is no temperature: the loss falls without an end, or further behind the border."""
    decisions = [
        right
        for logits, batch in kept.batches
        for prediction in task.predict(logits, batch, labels)
        for _, right in task.confidences(prediction, labels)
    ]
    if decisions and all(decisions):
        return (
            "every decision on the validation split is right, so the loss falls with any lower temperature: the split "
            "does not tell how sure the model may be"
        )
    place = float(np.log(temperature))
    if min(place - LOG_RANGE[0], LOG_RANGE[1] - place) > AT_BORDER:
        return None
    return (
        f"the loss on the validation split is least beyond the temperatures that are tried, which end at e^{place:.0f}"
    )


@torch.inference_mode()
def fit_temperature(task: Task, kept: LogitCollector) -> float:
    """The temperature that makes what is right likeliest; minus the log-likelihood is convex in its inverse."""
    from scipy.optimize import minimize_scalar

    task = task.with_likelihood

    def loss(log_temperature: float) -> float:
        scale = float(np.exp(-log_temperature))
        tempered = task.tempered(1 / scale)
        return sum(float(tempered.loss(logits * scale, batch)) for logits, batch in kept.batches)

    found: Any = minimize_scalar(loss, bounds=LOG_RANGE, method="bounded")
    return float(np.exp(found.x))


class CalibrationMeter:
    """The expected calibration error over decisions as they come.

    It is the mean distance between confidence and accuracy, over bins of equal width, weighted by their size.
    """

    def __init__(self) -> None:
        self._gaps = np.zeros(BINS)
        self._count = 0

    def add(self, decisions: Sequence[tuple[float, bool]]) -> None:
        """Take in decisions: the probability of each, and whether it was right."""
        for confidence, right in decisions:
            self._gaps[min(int(confidence * BINS), BINS - 1)] += right - confidence
        self._count += len(decisions)

    def compute(self) -> float | None:
        """The error; None where there were no decisions."""
        return float(np.abs(self._gaps).sum() / self._count) if self._count else None


def _error_of(task: Task, kept: LogitCollector, temperature: float, labels: tuple[str, ...]) -> float:
    meter = CalibrationMeter()
    tempered = task.tempered(temperature)
    for logits, batch in kept.batches:
        for prediction in tempered.predict(logits / temperature, batch, labels):
            meter.add(task.confidences(prediction, labels))
    return meter.compute() or 0.0
