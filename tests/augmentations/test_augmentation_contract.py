"""Every augmentation keeps the contract that plugins keep; and each does what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftlab.augmentations._words import join_words, split_words
from peftlab.core.augmentation import AUGMENTATIONS, Augmentation, ModelAugmentation
from peftlab.core.keyboard import NEIGHBOURS
from peftlab.testing import AugmentationContract
from peftlab.testing.plugin_contract import Section

ENGLISH = "The film was good,  and we saw it twice.\n"
CHINESE = "这部电影很好看，我们看了两遍"
THAI = "หนังเรื่องนี้ดีมาก"
TEXTS = st.one_of(st.text(max_size=60), st.text("ab c电影นี้\n", max_size=60))


PLAIN = [name for name in AUGMENTATIONS.names() if not issubclass(AUGMENTATIONS[name], ModelAugmentation)]
"""Those that need no model."""
RANDOM = [name for name in PLAIN if "probability" in AUGMENTATIONS[name].model_fields]
"""Of them those that draw words or letters, of whatever script."""


def built(name: str, **keys: object) -> Augmentation:
    return AUGMENTATIONS[name].model_validate(keys)


class TestAugmentations(AugmentationContract):
    def sections(self) -> Sequence[Section]:
        return [{"type": name, **({"probability": 0.4} if name in RANDOM else {})} for name in PLAIN]


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("text", [ENGLISH, CHINESE, THAI, "Фильм был хороший, и мы его видели"])
def test_every_script_is_changed(name: str, text: str) -> None:
    drawn = {built(name, probability=0.3).change(text, Random(seed)) for seed in range(20)}
    assert len(drawn - {text}) >= 4


@given(text=TEXTS)
@settings(max_examples=80, deadline=None)
def test_words_and_blanks_make_the_text_again(text: str) -> None:
    words, blanks = split_words(text)
    assert join_words(words, blanks) == text
    assert len(blanks) == len(words) + 1
    assert not any(word.isspace() or not word for word in words)


def test_characters_are_words_where_there_are_no_blanks() -> None:
    assert split_words("看GPT-2 了")[0] == ["看", "GPT-2", "了"]
    assert split_words("ดี นี้")[0] == ["ดี", "นี้"]


@given(text=TEXTS, seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_swapped_words_are_the_same_words_and_dropped_ones_are_gone(text: str, seed: int) -> None:
    words = Counter(split_words(text)[0])
    swapped = built("token_swap", probability=0.5).change(text, Random(seed))
    if " " in text.strip() and text.isascii():
        assert Counter(split_words(swapped)[0]) == words
    assert sorted(swapped) == sorted(text)
    dropped = built("token_dropout", probability=0.5).change(text, Random(seed))
    assert not Counter(dropped) - Counter(text)


def test_the_probability_is_that_of_a_word() -> None:
    text = " ".join(f"w{number}" for number in range(2000))
    left = len(built("token_dropout", probability=0.2).change(text, Random(0)).split())
    assert 1520 < left < 1680  # five standard errors around 1600
    assert built("token_dropout", probability=0.99).change("one", Random(0)) == "one"


def test_typos_leave_digits_and_signs_and_use_near_keys() -> None:
    assert built("typos", probability=0.9).change("12 + 3 = 15!", Random(0)) == "12 + 3 = 15!"
    assert set(NEIGHBOURS["g"]) == set("fhtyvb")
    assert set(NEIGHBOURS["q"]) == set("wa")
    assert all(key in NEIGHBOURS[near] for key, around in NEIGHBOURS.items() for near in around)
    text = "a" * 4000
    wrong = sum(letter != "a" for letter in built("typos", probability=0.5).change(text, Random(1)))
    assert 350 < wrong < 650  # a quarter of the mistakes is another key
    assert built("typos", probability=0.9).change("A" * 5, Random(0)) != "A" * 5


def test_counterfactuals_speak_of_the_other_group() -> None:
    change = built("counterfactual").change
    assert change("He told the women that his boy is himself.", Random(0)) == (
        "She told the men that her girl is herself."
    )
    assert change("The shepherd", Random(0)) == "The shepherd"  # no part of a word
    own = built("counterfactual", words={"Mei": "John", "nurse": "doctor"})
    assert own.change("Mei, a doctor", Random(0)) == "John, a nurse"
    assert change("", Random(0)) == ""
