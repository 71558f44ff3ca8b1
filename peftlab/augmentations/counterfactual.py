"""Counterfactual augmentation: the same texts about the other group (Lu et al. 2018, https://arxiv.org/abs/1807.11714)."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from pydantic import Field

from peftlab.core.augmentation import AUGMENTATIONS, Augmentation
from peftlab.core.counterfactuals import GENDER_WORDS, both_ways, swapped


@AUGMENTATIONS.register("counterfactual")
class Counterfactual(Augmentation):
    """Swap words of two groups, such as he and she: what is learned then holds for both."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1807.11714"

    words: dict[str, str] = Field(
        default_factory=lambda: dict(GENDER_WORDS),
        min_length=1,
        description="Words of which each becomes the other, both ways, in lower case; names too.",
    )

    def change(self, text: str, random: Random) -> str:
        """The text with every such word as the other; nothing is drawn."""
        pairs = both_ways(self.words)
        return swapped(text, {key.casefold(): value for key, value in pairs.items()})
