"""Texts whose probabilities are spread over many classes."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from peftlab.core.selection import STRATEGIES, Candidates, Choice
from peftlab.selection.strategies._diverse import DiverseStrategy
from peftlab.selection.strategies._wording import torn_between


@STRATEGIES.register("entropy")
class Entropy(DiverseStrategy):
    """Texts whose probabilities are spread over the classes, unlike one another."""

    paper: ClassVar[str] = "https://burrsettles.com/pub/settles.activelearning.pdf"

    def select(self, candidates: Candidates, count: int, generator: np.random.Generator) -> list[Choice]:
        """By the entropy in nats."""
        each = candidates.probabilities
        entropies = (each * -np.log(each.clip(min=1e-300))).sum(axis=1).clip(min=0)
        most = math.log(len(candidates.classes))
        return [
            Choice(
                at,
                float(entropies[at]),
                f"entropy {entropies[at]:.2f} of at most {most:.2f}: {torn_between(each[at], candidates.classes)}",
            )
            for at in self.spread(entropies, candidates.vectors, count, generator)
        ]
