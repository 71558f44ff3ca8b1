from __future__ import annotations

import random

from pydantic import Field

from peftlab.core.perturbation import PERTURBATIONS, Perturbation
from peftlab.core.words import has_signs, word_places


@PERTURBATIONS.register("truncation")
class Truncation(Perturbation):
    """The end of the text is missing."""

    expects = "nothing"
    what = "the last 20 % of the words are missing"

    share: float = Field(0.2, gt=0, lt=1, description="Share of the words that is cut.")

    def described(self) -> str:
        """With the share."""
        return f"the last {100 * self.share:g} % of the words are missing"

    def change(self, text: str, generator: random.Random) -> str:
        """A text of fewer than five words stays."""
        if has_signs(text):
            places = word_places(text)
            return text[: places[len(places) - round(self.share * len(places)) - 1][1]] if len(places) >= 5 else text
        words = text.split()
        return " ".join(words[: len(words) - round(self.share * len(words))]) if len(words) >= 5 else text
