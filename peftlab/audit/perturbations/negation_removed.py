from __future__ import annotations

import random
import re

from peftlab.core.perturbation import PERTURBATIONS, Perturbation

IRREGULAR = {"won't": "will", "can't": "can", "cannot": "can", "shan't": "shall"}
PATTERN = re.compile(r"\b(?:won['’]t|can['’]t|cannot|shan['’]t|(\w+)n['’]t)\b|(?<!\s)\s+(?:not|never)\b", re.I)
CHINESE = re.compile(r"不(?=[是会能要好太够想给让敢])|没有?(?=[\u4e00-\u9fff])")


@PERTURBATIONS.register("negation_removed")
class NegationRemoved(Perturbation):
    """The first *not*, *never* or *n't* is taken out; in Chinese the first 不 before a usual word, 没 or 没有."""

    expects = "direction"
    what = "a *not* or *never* is taken out"

    def change(self, text: str, generator: random.Random) -> str:
        """Only the first one."""
        if CHINESE.search(text) is not None:
            return CHINESE.sub("", text, count=1)
        return PATTERN.sub(_without, text, count=1).strip()


def _without(match: re.Match[str]) -> str:
    found = match[0].replace("’", "'").lower()
    return IRREGULAR.get(found) or match[1] or ""
