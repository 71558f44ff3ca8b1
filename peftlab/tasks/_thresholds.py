"""Above which probability a label is given, chosen by F1 on the validation split (Lipton et al. 2014).

https://arxiv.org/abs/1402.1892: what makes F1 best depends on how rare a label is, and is mostly not 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

HALF = 0.5


def best_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The threshold with the best F1 of one label; of several as good ones the nearest to 0.5.

    Thresholds lie in the middle between two scores that occur. A label that no example carries keeps 0.5.

    Args:
        scores: The label's probability, of each example.
        truth: Whether the example carries it.
    """
    if not truth.any():
        return HALF
    values = np.unique(scores)
    middles = (values[:-1] + values[1:]) / 2
    candidates = np.concatenate([[HALF], middles, [values[0] / 2]])
    given, right = (len(each) - np.searchsorted(np.sort(each), candidates, "right") for each in (scores, scores[truth]))
    f1 = 2 * right / (given + truth.sum())
    best = candidates[f1 == f1.max()]
    return float(best[np.abs(best - HALF).argmin()])


def thresholds(
    scores: Sequence[Sequence[float]], carried: Sequence[Sequence[str]], labels: Sequence[str]
) -> dict[str, float]:
    """The threshold of each label.

    Args:
        scores: Of each example the probability of every label.
        carried: Of each example the labels that are right.
        labels: Their names, in the order of the scores.
    """
    table = np.asarray(scores, dtype=np.float64).reshape(len(carried), len(labels))
    return {
        name: best_threshold(table[:, at], np.array([name in own for own in carried], dtype=np.bool_))
        for at, name in enumerate(labels)
    }


def as_logits(known: Mapping[str, float], labels: Sequence[str], temperature: float) -> list[float]:
    """Of each label the logit, divided by a temperature, whose sigmoid is the threshold."""
    return [math.log(known[name] / (1 - known[name])) / temperature for name in labels]


def describe_thresholds(known: Mapping[str, float]) -> str:
    """For a model card."""
    shown = ", ".join(f"{name} {value:.4g}" for name, value in known.items())
    return f"A label is given where its probability is above its threshold: {shown}."
