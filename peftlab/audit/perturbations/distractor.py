from __future__ import annotations

import random

from pydantic import Field

from peftlab.core.perturbation import PERTURBATIONS, Perturbation
from peftlab.core.words import has_signs

SENTENCES = (
    "This was written on a Tuesday.",
    "The page has three columns.",
    "It is ten past four here.",
    "See the number below.",
    "The street has two sides.",
)
CHINESE = ("这是星期二写的。", "这一页有三栏。", "现在是四点十分。", "请看下面的数字。", "街道有两边。")


@PERTURBATIONS.register("distractor")
class Distractor(Perturbation):
    """A sentence that says nothing of the matter is added at the end."""

    what = "a sentence that says nothing of the matter is added"

    sentences: list[str] = Field(default_factory=lambda: list(SENTENCES), min_length=1, description="Of which one is.")

    chinese_sentences: list[str] = Field(
        default_factory=lambda: list(CHINESE), min_length=1, description="Of which a Chinese text gets one."
    )

    def change(self, text: str, generator: random.Random) -> str:
        """The text, and one of the sentences."""
        if has_signs(text):
            end = "" if text.rstrip().endswith(("。", "！", "？", "…", ".", "!", "?")) else "。"
            return f"{text.rstrip()}{end}{generator.choice(self.chinese_sentences)}"
        end = "" if text.rstrip().endswith((".", "!", "?", "…", "。")) else "."
        return f"{text.rstrip()}{end} {generator.choice(self.sentences)}"
