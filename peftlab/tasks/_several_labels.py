"""Answers of a task whose texts have any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftlab.core.task import Prediction

if TYPE_CHECKING:
    from torch import Tensor


def label_predictions(
    logits: Tensor, targets: Sequence[Sequence[float]], labels: tuple[str, ...], limits: Sequence[float] | None
) -> list[Prediction]:
    """The labels above their limits, with the probability of each.

    Args:
        logits: Texts × labels.
        targets: The same, 0 or 1.
        labels: Their names.
        limits: Of the logits, by label; None: a label that is more likely than not is given.
    """
    likely = logits.float().sigmoid()
    given = (likely > 0.5 if limits is None else logits > logits.new_tensor(limits)).tolist()
    return [
        Prediction(
            label=[name for name, is_on in zip(labels, target, strict=True) if is_on],
            prediction=[name for name, is_on in zip(labels, own, strict=True) if is_on],
            scores=row,
        )
        for target, own, row in zip(targets, given, likely.tolist(), strict=True)
    ]


def label_confidences(prediction: Prediction, labels: tuple[str, ...]) -> list[tuple[float, bool]]:
    """The probability of the decision on every label, and whether it is right."""
    return [
        (
            score if name in prediction.prediction else 1 - score,
            (name in prediction.prediction) == (name in prediction.label),
        )
        for name, score in zip(labels, prediction.scores, strict=True)
    ]
