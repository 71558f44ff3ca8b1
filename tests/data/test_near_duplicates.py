"""Near duplicates: found without comparing every text with every other one, and none is missed."""

from __future__ import annotations

import random

import pytest

from peftlab.data import near_duplicates
from peftlab.data.near_duplicates import first_alike


def drawn(random_: random.Random, words: int, kinds: int) -> list[str]:
    return [f"w{random_.randrange(kinds)}" for _ in range(words)]


def one_by_one(known: list[tuple[str]], texts: list[tuple[str]]) -> list[int | None]:
    rows = [frozenset(text.split()) or frozenset(text) for (text,) in [*known, *texts]]
    open_rows, found = list[int](), list[int | None]()
    for at, row in enumerate(rows):
        near = (other for other in open_rows if 10 * len(row & rows[other]) >= 9 * len(row | rows[other]))
        alike = next(near, None) if at >= len(known) else None
        open_rows += [at] if alike is None else []
        found += [alike] if at >= len(known) else []
    return found


@pytest.mark.parametrize("kinds", [3, 60, 300])
def test_all_near_texts_are_found(kinds: int) -> None:
    draw = random.Random(kinds)
    for _ in range(25):
        bases = [drawn(draw, words, kinds) for words in (0, 1, 2, 9, 10, 11, 19, 20, 22, 45, 50, 55, 120)]
        texts = list[tuple[str]]()
        for base in [draw.choice(bases) for _ in range(40)]:
            words = list(base)
            for _ in range(draw.choice([0, 0, 1, 2, 5])):
                at = draw.randrange(len(words) + 1)
                words[at : at + draw.randrange(2)] = drawn(draw, draw.randrange(2), kinds)
            texts.append((" ".join(words),))
        assert first_alike(texts[:10], texts[10:]) == one_by_one(texts[:10], texts[10:])


def test_few_texts_are_compared_where_there_are_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, compared = random.Random(0), list[int]()
    texts = [(" ".join(drawn(draw, 12, 60)),) for _ in range(1500)]
    are_near = near_duplicates._are_near
    monkeypatch.setattr(near_duplicates, "_are_near", lambda *pair: compared.append(1) or are_near(*pair))
    first_alike(texts[:500], texts[500:])
    assert len(compared) < 10 * len(texts)
