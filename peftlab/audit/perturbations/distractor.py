from __future__ import annotations

import random

from pydantic import Field

from peftlab.core.perturbation import PERTURBATIONS, Perturbation

SENTENCES = (
    "This was written on a Tuesday.",
    "The page has three columns.",
    "It is ten past four here.",
    "See the number below.",
    "The street has two sides.",
)


@PERTURBATIONS.register("distractor")
class Distractor(Perturbation):
    """A sentence that says nothing of the matter is added at the end."""

    what = "a sentence that says nothing of the matter is added"

    sentences: list[str] = Field(default_factory=lambda: list(SENTENCES), min_length=1, description="Of which one is.")

    def change(self, text: str, generator: random.Random) -> str:
        """The text, and one of the sentences."""
        end = "" if text.rstrip().endswith((".", "!", "?", "…", "。")) else "."
        return f"{text.rstrip()}{end} {generator.choice(self.sentences)}"
