"""Words of texts in any script: Chinese and Japanese put no blanks between theirs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, also those that Japanese uses, as the inside of a regular expression's brackets."""
SIGNS = rf"{HAN}\u3005\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d"
"""Characters that stand without blanks between words: Chinese ones and Japanese kana."""
MARKS = "\u3001-\u3003\u3008-\u3011\u3014-\u301f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65…·—“”‘’"
"""Chinese marks such as 。 and ，, which stand between words without a blank."""
UNSPACED = rf"{SIGNS}\u3006\u3007\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Characters of all scripts that put no blanks between words: also Thai, Lao, Burmese and Khmer ones."""
_LETTER = rf"[^\W\d_{SIGNS}]"
WORD = re.compile(rf"[{SIGNS}]{{1,2}}|{_LETTER}+(?:['’]{_LETTER}+)*")
"""A word: letters, with apostrophes inside. Of Chinese and Japanese two characters, as most of their words have."""
WITHOUT_BLANKS = re.compile(rf"[{SIGNS}]")
_PIECES = re.compile(rf"[{SIGNS}]|[^\s{SIGNS}]+")
_WORDS_AND_MARKS = re.compile(rf"[{SIGNS}]|[^\W{SIGNS}]+|[^\w\s]")
_BLANKS = re.compile(rf"(?<=[{SIGNS}{MARKS}])\s+|(?<!\s)\s+(?=[{SIGNS}{MARKS}])")


def has_signs(text: str) -> bool:
    """Whether a text holds Chinese or Japanese characters."""
    return not text.isascii() and WITHOUT_BLANKS.search(text) is not None


def mostly_signs(texts: Iterable[str]) -> bool:
    """Whether more than half of the texts hold Chinese or Japanese characters; no texts do not."""
    found = [has_signs(text) for text in texts]
    return 2 * sum(found) > len(found)


def split_words(text: str) -> list[str]:
    """What stands between blanks; each Chinese or Japanese character by itself, marks beside it by themselves."""
    return _PIECES.findall(text) if has_signs(text) else text.split()


def word_set(text: str) -> set[str]:
    """The different words of a text, in lower case."""
    return set(map(str.casefold, WORD.findall(text)))


def word_places(text: str) -> list[tuple[int, int]]:
    """Begin and end of each of ``split_words``."""
    return [match.span() for match in _PIECES.finditer(text)]


def word_and_mark_places(text: str) -> list[tuple[int, int]]:
    """Begin and end of each word or number, and of each mark by itself; Chinese characters one by one."""
    return [match.span() for match in _WORDS_AND_MARKS.finditer(text)]


def without_blanks(text: str) -> str:
    """Without the blanks beside Chinese and Japanese characters, which say nothing there."""
    return _BLANKS.sub("", text) if has_signs(text) else text


def comparable(text: str) -> str:
    """A form that is equal for texts which hardly anything tells apart.

    It is Unicode's compatibility form (NFKC), case-folded, with runs of white space as one blank; blanks beside Chinese
    and Japanese characters say nothing.
    """
    if not text.isascii():
        # Folding can undo the normal form, so it is made again.
        folded = unicodedata.normalize("NFKC", without_blanks(text)).casefold()
        text = unicodedata.normalize("NFKC", folded)
    return " ".join(text.casefold().split())
