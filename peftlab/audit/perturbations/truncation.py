from __future__ import annotations

import random

from pydantic import Field

from peftlab.core.perturbation import PERTURBATIONS, Perturbation


@PERTURBATIONS.register("truncation")
class Truncation(Perturbation):
    """The end of the text is missing."""

    expects = "nothing"
    what = "the last fifth of the words is missing"

    share: float = Field(0.2, gt=0, lt=1, description="Share of the words that is cut.")

    def change(self, text: str, generator: random.Random) -> str:
        """A text of fewer than five words stays."""
        words = text.split()
        return " ".join(words[: len(words) - round(self.share * len(words))]) if len(words) >= 5 else text
