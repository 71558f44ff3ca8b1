"""CAL: texts that the model answers otherwise than the labelled texts next to them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from peftlab.core.selection import STRATEGIES, Candidates, Choice, Evidence
from peftlab.selection.strategies._distances import squared_distances
from peftlab.selection.strategies._diverse import DiverseStrategy
from peftlab.selection.strategies._wording import torn_between


@STRATEGIES.register("cal")
class Cal(DiverseStrategy):
    """Texts answered otherwise than the labelled texts next to them, unlike one another."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2109.03764"

    neighbours: PositiveInt = Field(10, description="Labelled texts that each text is compared with.")

    @property
    def scored_by(self) -> frozenset[Evidence]:
        """Vectors find the neighbours."""
        return frozenset({"probabilities", "vectors", "labelled_probabilities", "labelled_vectors"})

    def select(self, candidates: Candidates, count: int, generator: np.random.Generator) -> list[Choice]:
        """By the mean Kullback–Leibler divergence (nats) from the neighbours' probabilities to the text's own."""
        known = candidates.labelled_probabilities.clip(min=1e-12)
        own = np.log(candidates.probabilities.clip(min=1e-12))
        certain = (known * np.log(known)).sum(axis=1)
        number = min(self.neighbours, len(known))
        scores = np.empty(candidates.count)
        for rows, distances in squared_distances(candidates.vectors, candidates.labelled_vectors):
            near = np.argsort(distances, axis=1, kind="stable")[:, :number]
            scores[rows] = (certain[near] - np.einsum("ijk,ik->ij", known[near], own[rows])).mean(axis=1)
        scores = scores.clip(min=0)
        return [
            Choice(
                at,
                float(scores[at]),
                f"answered otherwise than the {number} nearest texts with a label (divergence {scores[at]:.2f}): "
                f"{torn_between(candidates.probabilities[at], candidates.classes)}",
            )
            for at in self.spread(scores, candidates.vectors, count, generator)
        ]
