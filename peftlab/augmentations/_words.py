"""Words of a text, and the blanks between them; characters where a script writes no blanks."""

from __future__ import annotations

import re
import unicodedata

# Han, Japanese kana, Thai, Lao, Burmese and Khmer.
_WITHOUT_BLANKS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WITHOUT_BLANKS += "\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_WITHOUT_BLANKS}]|[^\s{_WITHOUT_BLANKS}]+")


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
