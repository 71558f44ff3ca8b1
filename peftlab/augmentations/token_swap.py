"""Random swap of words (EDA: Wei and Zou 2019, https://arxiv.org/abs/1901.11196)."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from pydantic import Field

from peftlab.augmentations._words import join_words, split_words
from peftlab.core.augmentation import AUGMENTATIONS, Augmentation


@AUGMENTATIONS.register("token_swap")
class TokenSwap(Augmentation):
    """Let words change places at random (characters, where a script writes no blanks)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1901.11196"

    probability: float = Field(0.1, gt=0, lt=1, description="Of each word: that it changes places with another one.")

    def change(self, text: str, random: Random) -> str:
        """The text with the same words in another order; blanks stay where they are."""
        words, blanks = split_words(text)
        for at in range(len(words)):
            if random.random() < self.probability:
                other = random.randrange(len(words))
                words[at], words[other] = words[other], words[at]
        return join_words(words, blanks)
