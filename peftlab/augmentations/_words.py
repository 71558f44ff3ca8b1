"""Words of a text, and the blanks between them; characters where a script writes no blanks."""

from __future__ import annotations

import re
import unicodedata

from peftlab.core.words import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def split_words(text: str) -> tuple[list[str], list[str]]:
    """The words of a text, and what stands around them.

    Returns:
        The words, and the blanks before each of them and after the last: one more than there are words.
    """
    words: list[str] = []
    blanks, end = [""], 0
    for found in _WORD.finditer(text):
        blanks[-1], end = text[end : found.start()], found.end()
        if words and not blanks[-1] and unicodedata.category(found[0][0]).startswith("M"):
            words[-1] += found[0]  # a vowel or tone sign belongs to the character that carries it
            continue
        words.append(found[0])
        blanks.append("")
    blanks[-1] = text[end:]
    return words, blanks


def join_words(words: list[str], blanks: list[str]) -> str:
    """The text of words and the blanks around them."""
    return "".join(part for pair in zip(blanks, words, strict=False) for part in pair) + blanks[-1]
