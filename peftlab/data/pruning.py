"""The keys of pruning, and which training rows are left out for their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from peftlab.core.config import Config
from peftlab.statistics.label_errors import suspected_labels

MOST_OF_A_CLASS = 0.5
"""A model that does not know a class finds all of its labels wrong: so many of its rows stay in any case."""


class Pruning(Config):
    """Leave training rows out whose labels look wrong to models that have not learned them.

    The training rows are cut into folds. A run of the same recipe for each fold learns from the others and is asked
    about it (confident learning, Northcutt et al. 2021, https://arxiv.org/abs/1911.00068).
    """

    by: Literal["confident_learning", "probability"] = Field(
        "confident_learning",
        description="confident_learning: rows for which another class is likelier than is usual for it, the least "
        "likely labels first. probability: the rows whose labels have the lowest probability; needs a share.",
    )
    share: float | None = Field(
        None, gt=0, lt=0.5, description="The largest share of the training rows that is left out. null: no limit."
    )
    folds: int = Field(4, ge=2, le=20, description="Runs that are tuned for it, each without one part of the rows.")

    @model_validator(mode="after")
    def _probability_needs_a_share(self) -> Self:
        if self.by == "probability" and self.share is None:
            raise ValueError("`by: probability` puts all rows in an order, and needs a `share` to leave out")
        return self

    def chosen(self, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[int]:
        """The rows to leave out, the most suspicious first; of no class more than half.

        Args:
            labels: The given classes (rows).
            probabilities: Of models that have not learned these rows (rows × classes).
        """
        rows = len(labels)
        if self.by == "confident_learning":
            order = suspected_labels(labels, probabilities)
        else:
            order = np.argsort(probabilities[np.arange(rows), labels], kind="stable")
        left = (np.bincount(labels) * MOST_OF_A_CLASS).astype(np.int64)
        most = rows if self.share is None else math.floor(self.share * rows)
        chosen: list[int] = []
        for at in order.tolist():
            if len(chosen) == most:
                break
            if left[labels[at]] > 0:
                left[labels[at]] -= 1
                chosen.append(at)
        return chosen


def folds_of(classes: NDArray[np.int64], folds: int, seed: int, keys: Sequence[bytes] = ()) -> NDArray[np.int64]:
    """The fold of each row, drawn so that each class is spread evenly (rows).

    Args:
        classes: Of each row.
        folds: How many.
        seed: Of the draw.
        keys: Of each row. Equal ones are in one fold, else a run would have learned what it is asked about.
            Empty: all rows differ.
    """
    generator = np.random.default_rng(seed)
    found = np.empty(len(classes), dtype=np.int64)
    start = 0
    for name in np.unique(classes):
        own = generator.permutation(np.flatnonzero(classes == name))
        found[own] = (np.arange(len(own)) + start) % folds
        start += len(own)
    first: dict[bytes, int] = {}
    for at, key in enumerate(keys):
        found[at] = found[first.setdefault(key, at)]
    return found
