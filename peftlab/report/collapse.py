"""Runs that answer everything alike: their score is that answer's share of the examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.report import wording
from peftlab.report.comparison import Comparison
from peftlab.report.examples import ExampleTable

SAME_NUMBER = 1e-3
"""Predicted numbers that lie within this share of the labels' standard deviation are one."""


def collapse_notices(comparison: Comparison) -> list[str]:
    """A sentence that names the runs that gave one answer to everything, where there are any."""
    table = comparison.examples
    if table.truth is None or table.has_units:
        return []
    collapsed = [
        f"{method.label} seed {seed}"
        for method in comparison.methods
        if method.predicted is not None
        for seed, predicted in zip(method.seeds, method.predicted, strict=True)
        if _is_one_answer(predicted, table)
    ]
    if not collapsed:
        return []
    return [
        f"Training has collapsed: {wording.listing(collapsed)} gave everything the same answer. Such a run "
        "says that the method is not stable at its learning rate, not what it can reach."
    ]


def _is_one_answer(predicted: NDArray[Any], table: ExampleTable) -> bool:
    """Whether a run's answers are all the same, and the labels are not."""
    truth = table.truth
    if truth is None:
        return False
    if table.numeric:
        spread = float(np.std(truth))
        return spread > 0 and float(np.ptp(predicted)) <= SAME_NUMBER * spread
    if _is_of_words(predicted, table):
        return len(_tags(predicted, table)) == 1 < len(_tags(truth, table))
    return len(np.unique(predicted)) == 1 < len(np.unique(truth))


def _is_of_words(predicted: NDArray[Any], table: ExampleTable) -> bool:
    """Whether every word of a text has a label of its own: as many are predicted as are true."""
    values = table.values
    if table.truth is None or not values or not isinstance(values[0], tuple):
        return False
    lengths = np.array([len(value) for value in values])
    return bool((lengths[predicted] == lengths[table.truth]).all() and lengths[table.truth].max() > 1)


def _tags(codes: NDArray[Any], table: ExampleTable) -> set[str]:
    values = table.values
    return {tag for code in np.unique(codes) for tag in values[code]}
