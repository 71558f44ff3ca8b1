"""Texts that are nearly the same: they share nine tenths of their words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from peftlab.core.words import UNSPACED

TENTHS = 9
"""So many tenths of all words of two texts are in both, if they are near duplicates (Jaccard)."""
# Where no blanks part words, each character stands for itself.
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def first_alike(known: Sequence[Sequence[Any]], texts: Sequence[Sequence[Any]]) -> list[int | None]:
    """For each text the first other one that shares nine tenths of its words: a known one, or one before it.

    Case, order and punctuation do not count. A text that is near another one is not compared with later ones: so one
    of each family stays. Only texts that share one of their rarest words are compared (prefix filtering: Bayardo, Ma
    and Srikant, WWW 2007, https://doi.org/10.1145/1242572.1242591); none is missed by it.

    Args:
        known: For each row that is there already its texts: strings, or lists of strings.
        texts: The same, for the rows to compare.

    Returns:
        The position of the other one, counted through the known ones and then the texts; None where there is none.
    """
    rows = [_words(row) for row in [*known, *texts]]
    frequency = Counter(word for row in rows for word in row)
    index: dict[str, list[int]] = {}
    found: list[int | None] = []
    for at, row in enumerate(rows):
        rarest = sorted(row, key=lambda word: (frequency[word], word))[: _prefix(len(row))]
        alike = None
        if at >= len(known):
            others = sorted({other for word in rarest for other in index.get(word, ())})
            alike = next((other for other in others if _are_near(row, rows[other])), None)
            found.append(alike)
        if alike is None:
            for word in rarest:
                index.setdefault(word, []).append(at)
    return found


def _words(texts: Sequence[Any]) -> frozenset[str]:
    """Each column's words, or its characters where it has none."""
    words: set[str] = set()
    for column, value in enumerate(texts):
        text = (value if isinstance(value, str) else " ".join(value)).casefold()
        words.update(f"{column} {word}" for word in _WORD.findall(text) or [*text])
    return frozenset(words)


def _prefix(words: int) -> int:
    """Of two near texts, the so many rarest words of each have one in common."""
    return words + (-TENTHS * words // 10) + 1


def _are_near(one: frozenset[str], other: frozenset[str]) -> bool:
    common = len(one & other)
    return 10 * common >= TENTHS * (len(one) + len(other) - common)
