from __future__ import annotations

import random
import re

from peftlab.core.perturbation import PERTURBATIONS, Perturbation

VERBS = re.compile(r"\b(is|are|was|were|will|would|can|could|should|has been|have been)\b(?!\s*(?:not\b|n['’]t))", re.I)


@PERTURBATIONS.register("negation_added")
class NegationAdded(Perturbation):
    """*Not* after the first auxiliary verb."""

    expects = "direction"
    what = "a *not* is added"

    def change(self, text: str, generator: random.Random) -> str:
        """Only the first verb."""
        return VERBS.sub(lambda match: f"{match[0]} not", text, count=1)
