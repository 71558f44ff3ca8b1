"""Typing mistakes (Belinkov and Bisk 2018, https://arxiv.org/abs/1711.02173)."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from pydantic import Field

from peftlab.core.augmentation import AUGMENTATIONS, Augmentation
from peftlab.core.keyboard import NEIGHBOURS


@AUGMENTATIONS.register("typos")
class Typos(Augmentation):
    """Make typing mistakes: a neighbouring key, a letter too few or too many, two letters in the wrong order."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1711.02173"

    probability: float = Field(
        0.03, gt=0, lt=1, description="Of each letter: that a mistake is made there. Digits and signs stay as they are."
    )

    def change(self, text: str, random: Random) -> str:
        """The text with mistakes in some of its letters."""
        written: list[str] = []
        letters = iter(range(len(text)))
        for at in letters:
            letter, following = text[at], text[at + 1 : at + 2]
            if not letter.isalpha() or random.random() >= self.probability:
                written.append(letter)
                continue
            near = NEIGHBOURS.get(letter.lower(), "")
            kinds = ["drop", "double", *(["key"] if near else []), *(["order"] if following.isalpha() else [])]
            kind = random.choice(kinds)
            if kind == "double":
                written.append(letter * 2)
            elif kind == "key":
                key = random.choice(near)
                written.append(key.upper() if letter.isupper() else key)
            elif kind == "order":
                written.append(following + letter)
                next(letters)
        return "".join(written)
