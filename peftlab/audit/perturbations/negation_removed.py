from __future__ import annotations

import random
import re

from peftlab.core.perturbation import PERTURBATIONS, Perturbation

IRREGULAR = {"won't": "will", "can't": "can", "cannot": "can", "shan't": "shall"}
PATTERN = re.compile(r"\b(?:won['’]t|can['’]t|cannot|shan['’]t|(\w+)n['’]t)\b|\s+(?:not|never)\b", re.I)


@PERTURBATIONS.register("negation_removed")
class NegationRemoved(Perturbation):
    """The first *not*, *never* or *n't* is taken out."""

    expects = "direction"
    what = "a *not* or *never* is taken out"

    def change(self, text: str, generator: random.Random) -> str:
        """Only the first one."""
        return PATTERN.sub(_without, text, count=1).strip()


def _without(match: re.Match[str]) -> str:
    found = match[0].replace("’", "'").lower()
    return IRREGULAR.get(found) or match[1] or ""
