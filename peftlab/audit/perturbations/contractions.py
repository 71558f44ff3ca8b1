from __future__ import annotations

import random
import re

from peftlab.core.perturbation import PERTURBATIONS, Perturbation

LONG = {
    "can't": "cannot",
    "won't": "will not",
    "don't": "do not",
    "doesn't": "does not",
    "didn't": "did not",
    "isn't": "is not",
    "aren't": "are not",
    "wasn't": "was not",
    "weren't": "were not",
    "couldn't": "could not",
    "wouldn't": "would not",
    "shouldn't": "should not",
    "haven't": "have not",
    "hasn't": "has not",
    "i'm": "I am",
    "you're": "you are",
    "we're": "we are",
    "they're": "they are",
    "i've": "I have",
    "we've": "we have",
    "they've": "they have",
    "i'll": "I will",
    "you'll": "you will",
    "we'll": "we will",
    "it's": "it is",
    "that's": "that is",
    "there's": "there is",
}
SHORT = {long.lower(): short for short, long in LONG.items()}
PATTERN = re.compile(
    rf"(?<![\w'])({'|'.join(map(re.escape, sorted([*LONG, *SHORT], key=len, reverse=True)))})(?![\w'])", re.I
)


@PERTURBATIONS.register("contractions")
class Contractions(Perturbation):
    """English contractions written out, and what is written out contracted."""

    what = "contractions are written out, or the other way round"

    def change(self, text: str, generator: random.Random) -> str:
        """Each form for the other."""
        return PATTERN.sub(_other, text.replace("’", "'"))


def _other(match: re.Match[str]) -> str:
    found = match[0].lower()
    other = LONG.get(found) or SHORT[found]
    other = "I" + other[1:] if found.startswith("i ") or found.startswith("i'") else other
    return other[0].upper() + other[1:] if match[0][0].isupper() else other
