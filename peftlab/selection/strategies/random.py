"""Texts by chance: what every other strategy has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftlab.core.selection import STRATEGIES, Candidates, Choice, Strategy

if TYPE_CHECKING:
    import numpy as np


@STRATEGIES.register("random")
class Random(Strategy):
    """Texts drawn by chance: what the others have to beat."""

    def select(self, candidates: Candidates, count: int, generator: np.random.Generator) -> list[Choice]:
        """Each text is as likely as any other."""
        drawn = generator.permutation(candidates.count)[:count]
        return [Choice(int(at), None, "drawn by chance") for at in drawn]
