from __future__ import annotations

import random
from typing import Literal

from pydantic import Field

from peftlab.core.perturbation import PERTURBATIONS, Perturbation


@PERTURBATIONS.register("case")
class Case(Perturbation):
    """All in small letters, or all in capitals."""

    what = "all letters are small"

    to: Literal["lower", "upper"] = Field("lower", description="`lower` or `upper`.")

    def described(self) -> str:
        """Which case it is."""
        return self.what if self.to == "lower" else "all letters are capitals"

    def change(self, text: str, generator: random.Random) -> str:
        """The text in the other case."""
        return text.lower() if self.to == "lower" else text.upper()

    def change_words(self, words: list[str], generator: random.Random) -> list[str]:
        """Each word in the other case."""
        return [self.change(word, generator) for word in words]
