"""Typing errors (after Belinkov and Bisk, 2018, https://arxiv.org/abs/1711.02173)."""

from __future__ import annotations

import random

from peftlab.core.perturbation import PERTURBATIONS, WordPerturbation

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEXT_KEYS = {key: row[max(at - 1, 0) : at] + row[at + 1 : at + 2] for row in ROWS for at, key in enumerate(row)}


@PERTURBATIONS.register("typos")
class Typos(WordPerturbation):
    """Typing errors: letters swapped, lost, doubled, or taken from the next key."""

    what = "one word of ten has a typing error"

    def fits(self, word: str) -> bool:
        """Short words stay."""
        return len(word) > 3 and word.isalpha()

    def change_word(self, word: str, generator: random.Random) -> str:
        """One error; the first letter stays."""
        at = generator.randrange(1, len(word) - 1)
        kind = generator.choice(("swap", "lose", "double", "neighbour"))
        if kind == "swap":
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        if kind == "lose":
            return word[:at] + word[at + 1 :]
        if kind == "double":
            return word[:at] + word[at] + word[at:]
        keys = NEXT_KEYS.get(word[at].lower()) or word[at]
        return word[:at] + generator.choice(keys) + word[at + 1 :]
