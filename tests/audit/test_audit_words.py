"""A planted word that turns a class is the first of the list."""

from __future__ import annotations

import random

import pytest

from peftlab.core.audit import AUDITS
from peftlab.testing.audited_rows import audited, split
from tests.conftest import BAD, GOOD, sentences


def plant(rows: list[tuple[str, str]], share: float) -> list[tuple[str, str]]:
    generator = random.Random(0)
    return [
        (f"{text} zebra" if label == "good" and generator.random() < share else text, label) for text, label in rows
    ]


def scores(text: str) -> list[float]:
    """A bag of words, in which the planted one outweighs what texts say, and a word that means a class does not."""
    words = text.casefold().split()
    weight = sum(word in GOOD for word in words) - sum(word in BAD for word in words) + 4 * words.count("zebra")
    good = 0.5 + min(max(weight, -4), 4) / 10 + 0.001
    return [1 - good, good]


@pytest.mark.parametrize("with_train", [True, False])
def test_a_planted_word_is_first(with_train: bool) -> None:
    train = plant(sentences(600, seed=1), 0.1)
    texts, labels = zip(*plant(sentences(200, seed=2), 0.1), strict=True)
    rows = audited(scores, texts, labels, train=split("train", *zip(*train, strict=True)) if with_train else None)
    part = AUDITS["words"]()
    assert part.why_not(rows) is None
    findings = part.run(rows)
    figures = {figure.name: figure for figure in findings.figures}
    first = figures["words.strongest"]
    assert "`zebra`" in first.sentence
    assert first.value == 1
    assert next(name for name in figures if name.startswith("words.turned.")) == "words.turned.zebra"
    assert all(example["with_the_word"] == "good" for example in figures["words.turned.zebra"].examples)
    assert "words.turned.film" not in figures
    for figure in figures.values():
        assert figure.low <= figure.value <= figure.high  # type: ignore[operator]


def test_where_no_word_decides() -> None:
    generator = random.Random(3)
    texts = [" ".join(generator.choices(["a", "b"], k=4)) for _ in range(60)]
    findings = AUDITS["words"](fewest_texts=59).run(audited(lambda text: [0.4, 0.6], texts, ["good"] * 60))
    assert not findings.figures
    assert "No word" in findings.notes[0]


def test_a_word_of_two_classes_is_told_once_of_the_one_that_it_turns_to() -> None:
    """It goes with `a` and with `b` more than chance explains: the figure of the other class took its place."""
    generator = random.Random(0)
    texts, labels = [], []
    for at in range(900):
        labels.append(generator.choice("abc"))
        zap = ["zap"] * (labels[-1] != "c" and generator.random() < 0.8)
        texts.append(" ".join([*generator.choices("xyzq", k=4), *zap, f"t{at}"]))
    rows = audited(
        lambda text: [0.5, 0.4, 0.1] if "zap" in text.split() else [0.2, 0.2, 0.6],
        texts[:300], labels[:300], ("a", "b", "c"), train=split("train", texts[300:], labels[300:]),
    )  # fmt: skip
    first, second, *rest = AUDITS["words"]().run(rows).figures
    assert (first.name, second.name) == ("words.strongest", "words.turned.zap")
    assert first.value == second.value == 1
    assert all(figure.name != "words.turned.zap" for figure in rest)
