"""One value per example whose mean is a metric, so that its interval can be over examples too.

Accuracy and errors are means already. Macro F1, weighted F1 and the Matthews correlation of one class per example are
not: for them these are jackknife pseudo-values n·θ − (n − 1)·θ₍₋ᵢ₎ (Tukey, Annals of Mathematical Statistics 29, 1958;
Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11), shifted so that their mean is the metric
itself rather than the jackknife's estimate of it, from which it differs by O(1/n). Deleting an example changes one cell
of the confusion matrix, so that there is one value per cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from peftlab.statistics.crossed import Floats

OfConfusion = Callable[[Floats], float]


def errors(labels: Sequence[Any], predictions: Sequence[Any]) -> Floats:
    """How far above its target each predicted number is."""
    _check(labels, predictions)
    return np.asarray(np.asarray(predictions, dtype=np.float64) - np.asarray(labels, dtype=np.float64))


def accuracy(labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
    """1 where a class, or all labels of an example, are right; None for tags of words, whose mean is over words."""
    _check(labels, predictions)
    return _all_right(labels, predictions) if _is_list(labels[0]) else _right(labels, predictions)


def of_confusion(metric: OfConfusion, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
    """Pseudo-values of a metric of the confusion matrix; None for several labels per example."""
    _check(labels, predictions)
    return None if _is_list(labels[0]) else _pseudo_values(metric, labels, predictions)


def _check(labels: Sequence[Any], predictions: Sequence[Any]) -> None:
    if len(labels) == 0 or len(labels) != len(predictions):
        raise ValueError(f"{len(labels)} labels and {len(predictions)} predictions.")


def _right(labels: Sequence[Any], predictions: Sequence[Any]) -> Floats:
    return np.array([label == prediction for label, prediction in zip(labels, predictions, strict=True)], np.float64)


def _all_right(labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
    """1 where all labels of an example are right; None where the lists are tags of words, which repeat."""
    if any(len(set(tags)) < len(tags) for tags in (*labels, *predictions)):
        return None
    return _right([set(label) for label in labels], [set(prediction) for prediction in predictions])


def _is_list(label: Any) -> bool:
    return isinstance(label, (list, tuple, np.ndarray))


def _pseudo_values(metric: OfConfusion, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats:
    places = {name: at for at, name in enumerate(dict.fromkeys((*labels, *predictions)))}
    truth = np.array([places[label] for label in labels])
    predicted = np.array([places[prediction] for prediction in predictions])
    confusion = np.zeros((len(places), len(places)))
    np.add.at(confusion, (truth, predicted), 1)
    count = len(truth)
    whole = metric(confusion)
    if count == 1:
        return np.array([whole])
    without = np.zeros_like(confusion)
    # The classes stay those of all examples, also where the one that is left out was the only one of its class.
    for cell in zip(*np.nonzero(confusion), strict=True):
        confusion[cell] -= 1
        without[cell] = metric(confusion)
        confusion[cell] += 1
    values = count * whole - (count - 1) * without[truth, predicted]
    return np.asarray(values - values.mean() + whole)


def _f1_of_classes(confusion: Floats) -> Floats:
    """F1 per class; 0 for a class that neither occurs nor is predicted."""
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    shares: Floats = np.divide(2 * np.diagonal(confusion), both, out=np.zeros(len(confusion)), where=both > 0)
    return shares


def macro_f1(confusion: Floats) -> float:
    """F1 of each class, averaged with equal weight."""
    return float(_f1_of_classes(confusion).mean())


def weighted_f1(confusion: Floats) -> float:
    """F1 of each class, averaged by how often it occurs."""
    return float(_f1_of_classes(confusion) @ confusion.sum(axis=1) / confusion.sum())


def matthews(confusion: Floats) -> float:
    """Of any number of classes (Gorodkin, Computational Biology and Chemistry 28, 2004); 0 for a constant side."""
    count, predicted, actual = confusion.sum(), confusion.sum(axis=0), confusion.sum(axis=1)
    spread = (count**2 - predicted @ predicted) * (count**2 - actual @ actual)
    if spread == 0:
        return 0.0
    return float((np.trace(confusion) * count - predicted @ actual) / np.sqrt(spread))
