"""The contract of a perturbation: another text that should, or should not, be answered alike."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from peftlab.core.config import RegisteredConfig
from peftlab.core.given_values import check_kind
from peftlab.core.registry import Registry
from peftlab.core.words import WORD

T = TypeVar("T")


class Perturbation(RegisteredConfig, ABC):
    """A perturbation of texts. The docstring's first line is what ``peftlab ls perturbations`` shows."""

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    required_attributes: ClassVar[tuple[str, ...]] = ("what",)
    expects: ClassVar[Literal["invariance", "direction", "nothing"]] = "invariance"
    """``invariance``: the answer should stay, and a clear loss is a fault. ``direction``: the probability of the answer
    should fall. ``nothing``: it is only measured."""
    what: ClassVar[str]
    """What happens to the texts without settings, as the rest of a sentence that begins with "where"."""

    def described(self) -> str:
        """What happens as it is set, as the rest of a sentence that begins with "where"."""
        return self.what

    def why_not(self) -> str | None:
        """Why it can do nothing as it is set, as a sentence; None: it can."""
        return None

    def prepare(self, texts: Sequence[str]) -> None:
        """Called once with all texts that are to be changed: for what is done better together."""

    @abstractmethod
    def change(self, text: str, generator: random.Random) -> str:
        """The changed text; the same where there is nothing to change."""

    def change_words(self, words: list[str], generator: random.Random) -> list[str]:
        """A text that is parted into words, of which each has a label: as many words. By default nothing changes."""
        return words

    def perturb(self, value: Any, generator: random.Random) -> Any:
        """A value of a text column, whichever of the two it is.

        Raises:
            PluginError: What it gives is none.
        """
        kind: type = str if isinstance(value, str) else list
        changed = self.change(value, generator) if kind is str else self.change_words(list(value), generator)
        what = f"the perturbation `{self.registered_name}`"
        check_kind(changed, kind, what=what, hint="Return the changed text, or the changed words.")
        return changed


def draw_share(able: Sequence[T], share: float, generator: random.Random) -> list[T]:
    """A share of what can be changed; one at least, where there is any."""
    return generator.sample(able, max(1, round(share * len(able)))) if able else []


class WordPerturbation(Perturbation):
    """A perturbation of single words, each by itself."""

    share: float = Field(0.1, gt=0, le=1, description="Share of the words that change; one at least.")

    @abstractmethod
    def change_word(self, word: str, generator: random.Random) -> str:
        """Another spelling; the same word where it has none."""

    def change(self, text: str, generator: random.Random) -> str:
        """Change some words and leave everything between them."""
        found = list(WORD.finditer(text))
        chosen = self._chosen([match[0] for match in found], generator)
        parts, end = [], 0
        for at in sorted(chosen):
            parts += [text[end : found[at].start()], self.change_word(found[at][0], generator)]
            end = found[at].end()
        return "".join([*parts, text[end:]])

    def change_words(self, words: list[str], generator: random.Random) -> list[str]:
        """Change some of the words."""
        chosen = self._chosen(words, generator)
        return [self.change_word(word, generator) if at in chosen else word for at, word in enumerate(words)]

    def _chosen(self, words: list[str], generator: random.Random) -> set[int]:
        able = [at for at, word in enumerate(words) if self.fits(word)]
        return set(draw_share(able, self.share, generator))

    def fits(self, word: str) -> bool:
        """Whether a word can be changed."""
        return len(word) > 1


PERTURBATIONS: Registry[Perturbation] = Registry(
    "perturbation", package="peftlab.audit.perturbations", entry_point_group="peftlab.perturbations", base=Perturbation
)
