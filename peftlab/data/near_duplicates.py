"""Texts that are nearly the same: they share nine tenths of their words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from peftlab.core.words import UNSPACED

TENTHS = 9
"""So many tenths of all words of two texts are in both, if they are near duplicates (Jaccard)."""
# Where no blanks part words, each character stands for itself.
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_TOGETHER = ((20, 3), (50, 2))
"""Texts of fewer words than the first number are compared where they share so many rare words; others where they share
one. Rare words are found quickly where there are many kinds of them; of few kinds, several together are rare."""


def first_alike(known: Sequence[Sequence[Any]], texts: Sequence[Sequence[Any]]) -> list[int | None]:
    """For each text the first other one that shares nine tenths of its words: a known one, or one before it.

    Case, order and punctuation do not count. A text that is near another one is not compared with later ones: so one
    of each family stays. Only texts that share some of their rarest words are compared (prefix filtering: Bayardo, Ma
    and Srikant, WWW 2007, https://doi.org/10.1145/1242572.1242591; with several words: Wang, Li and Feng, SIGMOD 2012,
    https://doi.org/10.1145/2213836.2213847); none is missed by it.

    Args:
        known: For each row that is there already its texts: strings, or lists of strings.
        texts: The same, for the rows to compare.

    Returns:
        The position of the other one, counted through the known ones and then the texts; None where there is none.
    """
    rows = [_words(row) for row in [*known, *texts]]
    frequency = Counter(word for row in rows for word in row)
    index: dict[tuple[str, ...], list[int]] = {}
    found: list[int | None] = []
    for at, row in enumerate(rows):
        rarest_first = sorted(row, key=lambda word: (frequency[word], word))
        alike = None
        if at >= len(known):
            keys = [key for together in _together_of_near(len(row)) for key in _keys(rarest_first, together)]
            others = sorted({other for key in keys for other in index.get(key, ())})
            alike = next((other for other in others if _are_near(row, rows[other])), None)
            found.append(alike)
        if alike is None:
            for key in _keys(rarest_first, _together(len(row))):
                index.setdefault(key, []).append(at)
    return found


def _words(texts: Sequence[Any]) -> frozenset[str]:
    """Each column's words, or its characters where it has none."""
    words: set[str] = set()
    for column, value in enumerate(texts):
        text = (value if isinstance(value, str) else " ".join(value)).casefold()
        words.update(f"{column} {word}" for word in _WORD.findall(text) or [*text])
    return frozenset(words)


def _together(words: int) -> int:
    """By how many words together a text of so many is found."""
    return next((count for fewer, count in _TOGETHER if words < fewer), 1)


def _together_of_near(words: int) -> set[int]:
    """The same of all texts that one of so many words can be near: they have nine tenths as many, to ten ninths."""
    return {_together(-(-TENTHS * words // 10)), _together(words), _together(10 * words // TENTHS)}


def _keys(rarest_first: Sequence[str], together: int) -> Iterator[tuple[str, ...]]:
    """All choices of so many of a text's rarest words; near texts have one in common.

    One tenth of its words can be missing in the other text. So among those and ``together`` more, so many are in both.
    """
    missing = len(rarest_first) - -(-TENTHS * len(rarest_first) // 10)
    return combinations(rarest_first[: missing + together], min(together, len(rarest_first)))


def _are_near(one: frozenset[str], other: frozenset[str]) -> bool:
    common = len(one & other)
    return 10 * common >= TENTHS * (len(one) + len(other) - common)
