"""Typing errors (after Belinkov and Bisk, 2018, https://arxiv.org/abs/1711.02173)."""

from __future__ import annotations

import random

from peftlab.core.keyboard import NEIGHBOURS
from peftlab.core.perturbation import PERTURBATIONS, WordPerturbation
from peftlab.core.words import has_signs

ALIKE = ("的地得", "在再", "做作", "那哪", "他她它", "已以", "坐座", "像象", "进近", "带代", "很狠", "吗嘛", "吧把")
"""Characters that sound alike and are taken for each other."""
OTHERS = {sign: group.replace(sign, "") for group in ALIKE for sign in group}


@PERTURBATIONS.register("typos")
class Typos(WordPerturbation):
    """Typing errors: letters swapped, lost, doubled, or taken from the next key."""

    what = "10 % of the words have a typing error"

    def described(self) -> str:
        """With the share."""
        return f"{100 * self.share:g} % of the words have a typing error"

    def fits(self, word: str) -> bool:
        """Short words stay, but for Chinese ones, which are short."""
        return (len(word) > 3 and word.isalpha()) or (len(word) > 1 and has_signs(word))

    def change_word(self, word: str, generator: random.Random) -> str:
        """One error; the first letter stays."""
        if has_signs(word):
            return _chinese(word, generator)
        at = generator.randrange(1, len(word) - 1)
        kind = generator.choice(("swap", "lose", "double", "neighbour"))
        if kind == "swap":
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        if kind == "lose":
            return word[:at] + word[at + 1 :]
        if kind == "double":
            return word[:at] + word[at] + word[at:]
        keys = NEIGHBOURS.get(word[at].lower()) or word[at]
        return word[:at] + generator.choice(keys) + word[at + 1 :]


def _chinese(word: str, generator: random.Random) -> str:
    """Two characters swapped, one lost or doubled; or one that sounds alike, where there is one."""
    able = [at for at, sign in enumerate(word) if sign in OTHERS]
    if able:
        at = generator.choice(able)
        return word[:at] + generator.choice(OTHERS[word[at]]) + word[at + 1 :]
    at = generator.randrange(len(word) - 1)
    kind = generator.choice(("swap", "lose", "double"))
    if kind == "swap" and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + (word[at] * 2 if kind == "double" else "") + word[at + 1 :]
