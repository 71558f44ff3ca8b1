from __future__ import annotations

import random
import re

from peftlab.core.perturbation import PERTURBATIONS, Perturbation

VERBS = re.compile(r"\b(is|are|was|were|will|would|can|could|should|has been|have been)\b(?!\s*(?:not\b|n['’]t))", re.I)
CHINESE = re.compile(r"(?<![不只还总就可但要于])是(?!不是)|(?<!不)很")


@PERTURBATIONS.register("negation_added")
class NegationAdded(Perturbation):
    """*Not* after the first auxiliary verb; in Chinese 不是 for the first 是, or before 很."""

    expects = "direction"
    what = "a *not* is added"

    def change(self, text: str, generator: random.Random) -> str:
        """Only the first verb."""
        if (found := CHINESE.search(text)) is not None:
            negated = "不是很" if found[0] == "很" else "不是"
            return text[: found.start()] + negated + text[found.end() :]
        return VERBS.sub(lambda match: f"{match[0]} not", text, count=1)
