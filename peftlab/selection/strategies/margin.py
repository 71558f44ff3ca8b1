"""Texts whose two likeliest classes are about equally likely."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from peftlab.core.selection import STRATEGIES, Candidates, Choice
from peftlab.selection.strategies._diverse import DiverseStrategy
from peftlab.selection.strategies._wording import torn_between


@STRATEGIES.register("margin")
class Margin(DiverseStrategy):
    """Texts whose two likeliest classes are about equally likely, unlike one another."""

    paper: ClassVar[str] = "https://burrsettles.com/pub/settles.activelearning.pdf"

    def select(self, candidates: Candidates, count: int, generator: np.random.Generator) -> list[Choice]:
        """By the difference of the two highest probabilities, the smaller the better."""
        each = candidates.probabilities
        two = np.sort(each, axis=1)[:, -2:]
        margins = two[:, 1] - two[:, 0]
        return [
            Choice(
                at,
                float(margins[at]),
                f"two classes are {margins[at]:.2f} apart: {torn_between(each[at], candidates.classes)}",
            )
            for at in self.spread(1 - margins, candidates.vectors, count, generator)
        ]
