from __future__ import annotations

import random
import re

from peftlab.core.perturbation import PERTURBATIONS, Perturbation


@PERTURBATIONS.register("punctuation")
class Punctuation(Perturbation):
    """Without marks between and after words."""

    what = "marks such as commas and full stops are left out"

    def change(self, text: str, generator: random.Random) -> str:
        """Marks inside a word, as in *don't* or *3.5*, stay."""
        return (
            " ".join(
                re.sub(r"(?<!\w)[^\w\s@#$€£%&*]+|[.,;:!?…。，！？；：、]+(?!\w)|[。，！？；：、～]+", " ", text).split()
            )
            or text
        )
