"""Words that become each other, so that a text speaks of another group and says the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

from peftlab.core.words import has_signs

GENDER_WORDS: Mapping[str, str] = {
    "he": "she",
    "him": "her",
    "his": "her",
    "himself": "herself",
    "man": "woman",
    "men": "women",
    "boy": "girl",
}
CHINESE_GENDER_WORDS: Mapping[str, str] = {
    "他": "她",
    "先生": "女士",
    "男人": "女人",
    "男生": "女生",
    "男孩": "女孩",
    "爸爸": "妈妈",
    "哥哥": "姐姐",
    "弟弟": "妹妹",
    "爷爷": "奶奶",
    "叔叔": "阿姨",
}
_OTHER_WORDS = ("其他", "吉他", "他乡", "他国", "他日", "他山", "维他命")
"""Longer Chinese words with a sign that is a word by itself elsewhere; nothing in them is swapped."""


def whole_word(word: str) -> str:
    """The pattern of a word that is no part of a longer one; Chinese words have no ends that can be seen."""
    return re.escape(word) if has_signs(word) else rf"(?<!\w){re.escape(word)}(?!\w)"


def swapped(text: str, pairs: Mapping[str, str]) -> str:
    """The text with each word that is a key as its value; a capital letter at its beginning stays."""
    if not pairs:
        return text

    def other(match: re.Match[str]) -> str:
        new = pairs.get(match[0].casefold(), match[0])
        return new.capitalize() if match[0][0].isupper() else new

    longest_first = sorted(pairs, key=len, reverse=True)
    parts = [*(_OTHER_WORDS if has_signs(text) else ()), *map(whole_word, longest_first)]
    return re.sub("|".join(parts), other, text, flags=re.IGNORECASE)


def reversed_pairs(pairs: Mapping[str, str]) -> dict[str, str]:
    """The other way; of words that become the same one, the last: "her" is read as "his"."""
    return {new: old for old, new in pairs.items()}


def both_ways(pairs: Mapping[str, str]) -> dict[str, str]:
    """Each word becomes the other of its pair."""
    return {**reversed_pairs(pairs), **pairs}
