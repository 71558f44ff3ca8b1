"""What every augmentation and every perturbation must keep: the same draw changes a text alike, in any script."""

from __future__ import annotations

import reprlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, ClassVar

from peftlab.core.augmentation import AUGMENTATIONS, LoadedModel, ModelAugmentation
from peftlab.core.perturbation import PERTURBATIONS
from peftlab.core.registry import Registry
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.chance import asked_twice
from peftlab.testing.plugin_contract import PluginContract, Section

TEXTS = (
    "It is a good film, and we weren't bored: 12 of 13 friends say so!",
    "The man told her that his son isn't in London.",
    "这部电影很好看，我们看了两遍",
    "Фильм был хороший, и мы его видели",
    "หนังเรื่องนี้ดีมาก",
    "two  blanks\n\nand a line\t",
    "word",
    "a",
    "好",
    "👍🏽 :-)",
    "12 + 3 = 15",
    "long " * 400,
    " ",
    "",
)
"""Of several scripts, long, short, blank and empty."""
SEEDS = range(6)


class TextChangeContract(PluginContract):
    """Tests of what changes texts."""

    texts: ClassVar[Sequence[str]] = TEXTS
    """On which it is tried; it must change one of them at least."""

    @abstractmethod
    def change(self, section: Section, texts: Sequence[str], randoms: Sequence[Random]) -> list[Any]:
        """The texts, changed by a plugin that is made anew."""

    def test_equal_draws_change_a_text_alike(self, section: Section) -> None:
        """What is drawn comes from ``random`` alone, and no text depends on the one before it."""
        texts = list(self.texts)
        for text in texts:
            whose = f"{section['type']} on {reprlib.repr(text)}"
            asked_twice(whose, lambda text=text: self._changed(section, [text], 0), source="`random`")  # type: ignore[misc]
        alone = [self._changed(section, [text], 0)[0] for text in texts]
        for text, one, among in zip(texts, alone, self._changed(section, texts, 0), strict=True):
            require(
                one == among,
                f"{section['type']}: {reprlib.repr(text)} becomes {reprlib.repr(one)}, and behind other texts "
                f"{reprlib.repr(among)}",
                hint="Rows come in any order, from several processes: nothing may be remembered from text to text.",
            )

    def test_texts_become_texts_and_some_of_them_others(self, section: Section) -> None:
        """Of whatever script and length; without an effect a key is wrong, or ``texts`` has none that it is for."""
        changed = 0
        for seed in SEEDS:
            for text, found in zip(self.texts, self._changed(section, self.texts, seed), strict=True):
                require(
                    isinstance(found, str),
                    f"{section['type']} makes {type(found).__name__} {reprlib.repr(found)} of the text "
                    f"{reprlib.repr(text)}",
                    hint="It gives a text; the same one where there is nothing to change.",
                )
                changed += bool(found != text and found.strip())
        require(
            changed,
            f"{section['type']} leaves each of {len(self.texts)} texts as it is, or nothing of it",
            hint="If it is for other texts: texts = (…) in the class of the tests.",
        )

    def _changed(self, section: Section, texts: Sequence[str], seed: int) -> list[Any]:
        __tracebackhide__ = True
        # As in a run, each text has a generator of its own.
        found = self.change(section, texts, [Random(f"{seed} {text}") for text in texts])  # noqa: S311 - no secret
        require(
            len(found) == len(texts),
            f"{section['type']} gives {len(found)} texts for {len(texts)}",
            hint="One a text, in their order.",
        )
        return found


class AugmentationContract(TextChangeContract):
    """The tests of an augmentation. Inherit them in a file that pytest collects, and say which one they are of.

    .. code-block:: python

        from peftlab.testing import AugmentationContract


        class TestLowerCase(AugmentationContract):
            plugin = {"type": "lower_case"}

    One that works with models needs the method ``models``, which gives them, loaded and tiny.
    """

    registry: ClassVar[Registry[Any]] = AUGMENTATIONS

    def models(self, section: Section) -> Mapping[str, LoadedModel]:
        """What ``needed_models`` names, for an augmentation that works with models; it writes this method itself.

        Raises:
            BrokenContractError: It does not.
        """
        raise BrokenContractError(
            f"{section['type']} works with models, and {type(self).__name__} has none",
            hint="Write `def models(self, section)`, which gives a LoadedModel for each key of `needed_models`.",
        )

    def change(self, section: Section, texts: Sequence[str], randoms: Sequence[Random]) -> list[Any]:
        """The texts, changed by an augmentation that is made anew."""
        augmentation = self.build(section)
        if isinstance(augmentation, ModelAugmentation):
            return list(augmentation.change_all(list(texts), list(randoms), self.models(section)))
        return [
            _asked(section, text, lambda text=text, own=own: augmentation.change(text, own))
            for text, own in zip(texts, randoms, strict=True)
        ]


class PerturbationContract(TextChangeContract):
    """The tests of a perturbation. Inherit them in a file that pytest collects, and say which perturbation they are of.

    .. code-block:: python

        from peftlab.testing import PerturbationContract


        class TestShout(PerturbationContract):
            plugin = {"type": "shout"}
    """

    registry: ClassVar[Registry[Any]] = PERTURBATIONS

    def change(self, section: Section, texts: Sequence[str], randoms: Sequence[Random]) -> list[Any]:
        """The texts, changed by a perturbation that is made anew."""
        perturbation = self.build(section)
        why = perturbation.why_not()
        require(
            why is None,
            f"{section['type']} can do nothing with these keys: {why}",
            hint="Write keys into `plugin` with which it can.",
        )
        perturbation.prepare(list(texts))
        return [
            _asked(section, text, lambda text=text, own=own: perturbation.change(text, own))
            for text, own in zip(texts, randoms, strict=True)
        ]

    def test_words_with_labels_stay_as_many(self, section: Section) -> None:
        """Else each word behind the one that is gone would have the label of its neighbour."""
        perturbation, words = self.build(section), ["Wonderful", "weather", "is", "in", "London", ",", "12", "天气"]
        for seed in SEEDS:
            found = perturbation.change_words(list(words), Random(seed))  # noqa: S311 - no secret
            require(
                len(found) == len(words) and all(isinstance(word, str) for word in found),
                f"{section['type']}: `change_words` makes {len(found)} words of {len(words)}",
                hint="Give the words back as they are where it cannot keep their number.",
            )

    def test_it_says_what_happens(self, section: Section) -> None:
        """An audit's page writes it behind "where"."""
        told = self.build(section).described()
        require(
            isinstance(told, str) and told.strip() and not told.rstrip().endswith("."),
            f"{section['type']} is described as {told!r}",
            hint='`what` is the rest of a sentence that begins with "where": "all letters are capitals".',
        )


def _asked(section: Section, text: str, ask: Any) -> Any:
    """What a plugin makes of a text.

    Raises:
        BrokenContractError: It raises an error.
    """
    __tracebackhide__ = True
    try:
        return ask()
    except Exception as error:
        raise BrokenContractError(
            f"{section['type']} cannot take the text {reprlib.repr(text)}: {type(error).__name__}: {error}",
            hint="It gets texts of any script and length, empty ones too, and gives back as it is what it is not for.",
        ) from error
