"""Scores by class, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.report.comparison import MOST_METHODS, Comparison, MethodResult

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class ClassScores:
    """Of one method, all seeds together; arrays follow the classes.

    F1 of a class that is neither true nor predicted is NaN: nothing was right or wrong of it.
    """

    method: str
    precision: Counts
    recall: Counts
    f1: Counts
    confusion: Counts | None
    """True class × predicted class, in shares of the true class; None where an example has several labels."""


@dataclass(frozen=True)
class Classes:
    """The classes of a comparison, and each method's scores."""

    names: list[str]
    support: list[int]
    methods: list[ClassScores]


def class_scores(comparison: Comparison) -> Classes | None:
    """Scores by class of the best methods.

    Returns:
        None where answers are numbers, ranks or texts, or no method has predictions.
    """
    table = comparison.examples
    methods = [method for method in comparison.methods if method.predicted is not None][:MOST_METHODS]
    has_classes = bool(comparison.entries[0].labels)  # of answers that are no classes, each would be one
    if table.truth is None or table.numeric or not has_classes or not methods:
        return None
    values = table.values
    if any(isinstance(value, tuple) for value in values):
        are_sets = comparison.entries[0].settings.get("task.multi_label") is True
        return _of_lists(table.truth, values, methods, are_sets=are_sets)
    return _of_single(comparison, table.truth, values, methods)


def _of_single(
    comparison: Comparison, truth: NDArray[Any], values: list[Any], methods: Sequence[MethodResult]
) -> Classes:
    labels = comparison.entries[0].labels
    order = [values.index(label) for label in labels if label in values]
    order += [code for code in range(len(values)) if code not in order]
    place = np.argsort(order)
    found = []
    for method in methods:
        confusion = _confusion(place[truth], place[method.predicted], len(values))
        right, actual, predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        found.append(_scores(method.label, right, actual, predicted, _ratio(confusion, actual[:, None])))
    support = np.bincount(place[truth], minlength=len(values))
    return Classes([str(values[code]) for code in order], [int(number) for number in support], found)


def _confusion(truth: NDArray[Any], predicted: NDArray[Any], size: int) -> Counts:
    pairs = truth[None, :] * size + predicted
    return np.bincount(pairs.ravel(), minlength=size * size).reshape(size, size).astype(np.float64)


def _of_lists(truth: NDArray[Any], values: list[Any], methods: Sequence[MethodResult], *, are_sets: bool) -> Classes:
    """Several labels per example, which are sets, or a tag per word: each counts on its own."""
    names = sorted({name for value in values for name in value})
    places = {name: at for at, name in enumerate(names)}
    counts = np.zeros((len(values), len(names)))
    for code, value in enumerate(values):
        for name in value:
            counts[code, places[name]] += 1
    actual = counts[truth].sum(axis=0)
    found = []
    for method in methods:
        predicted = np.asarray(method.predicted)
        if are_sets:
            right = sum(np.minimum(counts[truth], counts[of_seed]).sum(axis=0) for of_seed in predicted)
        else:
            right = sum(_right_tags(truth, of_seed, values, places) for of_seed in predicted)
        total = actual * len(predicted)
        found.append(_scores(method.label, np.asarray(right), total, counts[predicted].sum(axis=(0, 1)), None))
    return Classes(names, [int(number) for number in actual], found)


def _right_tags(truth: NDArray[Any], predicted: NDArray[Any], values: list[Any], places: dict[str, int]) -> Counts:
    """Tags stand in the order of the words: only one at its own place is right."""
    right = np.zeros(len(places))
    for true, guess in zip(truth, predicted, strict=True):
        for tag, guessed in zip(values[true], values[guess], strict=False):
            right[places[tag]] += tag == guessed
    return right


def _scores(name: str, right: Counts, actual: Counts, predicted: Counts, confusion: Counts | None) -> ClassScores:
    f1 = _ratio(2 * right, actual + predicted, nothing=np.nan)
    return ClassScores(name, _ratio(right, predicted), _ratio(right, actual), f1, confusion)


def _ratio(part: Counts, whole: Counts, nothing: float = 0.0) -> Counts:
    whole = np.broadcast_to(whole, part.shape)
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, nothing), where=whole > 0))


def confusions(classes: Classes, scores: ClassScores, most: int) -> list[tuple[str, str, float]]:
    """The most frequent confusions of a method: true class, predicted class, share of the true class's examples."""
    if scores.confusion is None:
        return []
    weights = scores.confusion * np.array(classes.support)[:, None]
    np.fill_diagonal(weights, 0)
    order = np.argsort(-weights, axis=None, kind="stable")[:most]
    pairs = [divmod(int(at), len(classes.names)) for at in order if weights.flat[at] > 0]
    return [(classes.names[a], classes.names[b], float(scores.confusion[a, b])) for a, b in pairs]
