from __future__ import annotations

import random
import re

from pydantic import Field

from peftlab.audit.synonyms import built_in_groups, by_word, in_case_of
from peftlab.core.counterfactuals import whole_word
from peftlab.core.perturbation import PERTURBATIONS, Perturbation, draw_share


@PERTURBATIONS.register("synonyms")
class Synonyms(Perturbation):
    """Words that say about the same, from a list."""

    what = "words are others that say about the same"

    groups: list[list[str]] = Field(
        default_factory=lambda: [list(group) for group in built_in_groups()],
        min_length=1,
        description="Groups of words, in small letters, of which each may stand for another.",
    )
    share: float = Field(0.5, gt=0, le=1, description="Share of the words with a synonym that change; one at least.")

    def change(self, text: str, generator: random.Random) -> str:
        """Some of the words that are in the list."""
        others = by_word(self.groups)
        found = list(re.finditer("|".join(map(whole_word, sorted(others, key=len, reverse=True))), text, re.IGNORECASE))
        for match in sorted(draw_share(found, self.share, generator), key=lambda match: -match.start()):
            other = in_case_of(match[0], generator.choice(others[match[0].casefold()]))
            text = text[: match.start()] + other + text[match.end() :]
        return text

    def change_words(self, words: list[str], generator: random.Random) -> list[str]:
        """Each word by itself: one of two words could not keep its label."""
        others = {word: [other for other in group if " " not in other] for word, group in by_word(self.groups).items()}
        able = [at for at, word in enumerate(words) if others.get(word.casefold())]
        chosen = set(draw_share(able, self.share, generator))
        return [
            in_case_of(word, generator.choice(others[word.casefold()])) if at in chosen else word
            for at, word in enumerate(words)
        ]
