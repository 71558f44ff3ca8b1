"""Words that say about the same, from a list of groups."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

LIST = Path(__file__).parent / "word_lists" / "synonyms.json"


@lru_cache(maxsize=1)
def built_in_groups() -> tuple[tuple[str, ...], ...]:
    """Groups of English and Chinese words, in small letters, written for this project."""
    found = json.loads(LIST.read_text(encoding="utf-8"))
    return tuple(tuple(group) for group in [*found["en"], *found["zh"]])


@lru_cache(maxsize=1)
def built_in_by_word() -> Mapping[str, tuple[str, ...]]:
    """The others of the group of each word of the shipped list."""
    return by_word(built_in_groups())


def by_word(groups: Sequence[Sequence[str]]) -> Mapping[str, tuple[str, ...]]:
    """The others of each word's group."""
    return {word.casefold(): tuple(other for other in group if other != word) for group in groups for word in group}


def in_case_of(word: str, other: str) -> str:
    """The other word with a capital where the word begins with one, or in capitals as it is."""
    if len(word) > 1 and word.isupper():
        return other.upper()
    return other[0].upper() + other[1:] if word[:1].isupper() else other
