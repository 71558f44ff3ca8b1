"""Words that become each other, so that a text speaks of another group and says the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

GENDER_WORDS: Mapping[str, str] = {
    "he": "she",
    "him": "her",
    "his": "her",
    "himself": "herself",
    "man": "woman",
    "men": "women",
    "boy": "girl",
}


def swapped(text: str, pairs: Mapping[str, str]) -> str:
    """The text with each word that is a key as its value; a capital letter at its beginning stays."""
    if not pairs:
        return text

    def other(match: re.Match[str]) -> str:
        new = pairs[match[0].casefold()]
        return new.capitalize() if match[0][0].isupper() else new

    return re.sub(rf"\b({'|'.join(map(re.escape, pairs))})\b", other, text, flags=re.IGNORECASE)


def reversed_pairs(pairs: Mapping[str, str]) -> dict[str, str]:
    """The other way; of words that become the same one, the last: "her" is read as "his"."""
    return {new: old for old, new in pairs.items()}


def both_ways(pairs: Mapping[str, str]) -> dict[str, str]:
    """Each word becomes the other of its pair."""
    return {**reversed_pairs(pairs), **pairs}
