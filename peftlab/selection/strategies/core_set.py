"""Core-set: texts that leave no text of the pool far from one with a label."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from peftlab.core.selection import STRATEGIES, Candidates, Choice, Evidence, Strategy
from peftlab.selection.strategies._distances import squared_distances


@STRATEGIES.register("core_set")
class CoreSet(Strategy):
    """Texts far from all that have a label and from one another: greedy k-centre."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1708.00489"

    @property
    def uses(self) -> frozenset[Evidence]:
        """Where the texts lie."""
        return frozenset({"vectors", "labelled_vectors"})

    def select(self, candidates: Candidates, count: int, generator: np.random.Generator) -> list[Choice]:
        """The farthest text, then the farthest from what has a label or was chosen, and so on; no chance in it."""
        nearest = np.empty(candidates.count)
        for rows, distances in squared_distances(candidates.vectors, candidates.labelled_vectors):
            nearest[rows] = distances.min(axis=1)
        choices = []
        for _ in range(count):
            at = int(nearest.argmax())
            distance = float(np.sqrt(nearest[at]))
            choices.append(Choice(at, distance, f"{distance:.2f} from the nearest text with a label or chosen before"))
            for rows, distances in squared_distances(candidates.vectors, candidates.vectors[[at]]):
                nearest[rows] = np.minimum(nearest[rows], distances[:, 0])
            nearest[at] = -1
        return choices
