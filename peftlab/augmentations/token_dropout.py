"""Random deletion of words (EDA: Wei and Zou 2019, https://arxiv.org/abs/1901.11196)."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from pydantic import Field

from peftlab.augmentations._words import join_words, split_words
from peftlab.core.augmentation import AUGMENTATIONS, Augmentation


@AUGMENTATIONS.register("token_dropout")
class TokenDropout(Augmentation):
    """Leave words out at random (characters, where a script writes no blanks); one word stays at least."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1901.11196"

    probability: float = Field(0.1, gt=0, lt=1, description="Of each word: that it is left out.")

    def change(self, text: str, random: Random) -> str:
        """The text without some of its words, and without the blanks before them."""
        words, blanks = split_words(text)
        kept = [at for at in range(len(words)) if random.random() >= self.probability]
        if len(kept) == len(words):
            return text
        kept = kept or [random.randrange(len(words))]
        # What stands before the first word that is left, and after the last, is the text's own margin.
        margins = [blanks[0], *(blanks[at] for at in kept[1:]), blanks[-1]]
        return join_words([words[at] for at in kept], margins)
