from __future__ import annotations

import random
import re

from peftlab.core.perturbation import PERTURBATIONS, Perturbation


@PERTURBATIONS.register("numbers")
class Numbers(Perturbation):
    """Other numbers of as many digits."""

    what = "numbers are others"

    def change(self, text: str, generator: random.Random) -> str:
        """Each number of two digits or more; years and dates too."""
        return re.sub(r"\d{2,}", lambda match: _other(match[0], generator), text)


def _other(number: str, generator: random.Random) -> str:
    digits = [generator.choice("123456789"), *(generator.choice("0123456789") for _ in number[1:])]
    return "".join(digits)
