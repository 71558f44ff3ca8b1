"""Where the tokens of a text lie, for tokenizers that do not say so: each is looked for behind the one before it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Any

CONTINUATIONS = ("##",)
"""What WordPiece writes before a piece that goes on with a word."""
ENDINGS = ("</w>", "@@")
"""What BPE of other kinds writes behind a piece."""

Offsets = tuple[int, int]


def searched_offsets(tokenizer: Any, ids: Sequence[int], text: str) -> list[Offsets | None]:
    """The first character of each token and the one behind its last; None where that cannot be told.

    Tokens that do not stand in the text as they are, such as an unknown one, get what lies between their neighbours.

    Args:
        tokenizer: Whose tokens they are.
        ids: Of the whole text, without what the tokenizer puts around it.
        text: That was encoded.
    """
    folded, source = _folded(text)
    places: list[Offsets | None] = []
    cursor = 0
    for token in tokenizer.convert_ids_to_tokens(list(ids)):
        piece, goes_on = _shown(tokenizer, str(token))
        is_sure = not places or places[-1] is not None
        at = _find(folded, piece, cursor, is_next=is_sure, at_word=not goes_on)
        if token == tokenizer.unk_token or at is None:
            places.append(None)
            continue
        cursor = at + len(piece)
        places.append((source[at], source[cursor - 1] + 1))
    return _with_gaps(places, text)


def _folded(text: str) -> tuple[str, list[int]]:
    """The text without case and marks, and for each character of it the place in the text that it comes from."""
    pairs = [
        (folded, place)
        for place, character in enumerate(text)
        for folded in unicodedata.normalize("NFKD", character).casefold()
        if not unicodedata.combining(folded)
    ]
    return "".join(folded for folded, _ in pairs), [place for _, place in pairs]


def _shown(tokenizer: Any, token: str) -> tuple[str, bool]:
    """What a token stands for in a text, and whether it goes on with a word."""
    goes_on = token.startswith(CONTINUATIONS)
    for mark in CONTINUATIONS:
        token = token.removeprefix(mark)
    for mark in ENDINGS:
        token = token.removesuffix(mark)
    piece = str(tokenizer.convert_tokens_to_string([token])).replace("\u2581", " ").strip()
    return _folded(piece)[0], goes_on


def _find(folded: str, piece: str, cursor: int, *, is_next: bool, at_word: bool) -> int | None:
    """Where a piece stands: next, but for blanks; or, behind a token that was not found, where a word begins."""
    at = folded.find(piece, cursor) if piece else -1
    if is_next:
        return at if at >= 0 and not folded[cursor:at].strip() else None
    while at > cursor and at_word and folded[at - 1].isalnum() and piece[0].isalnum():
        at = folded.find(piece, at + 1)
    return at if at >= 0 else None


def _with_gaps(places: Sequence[Offsets | None], text: str) -> list[Offsets | None]:
    """What has no place gets what lies between its neighbours: a word each where there are as many, else all of it."""
    filled: list[Offsets | None] = []
    for is_known, group in groupby(enumerate(places), key=lambda item: item[1] is not None):
        run = list(group)
        if is_known:
            filled += [place for _, place in run]
            continue
        start = filled[-1][1] if filled and filled[-1] is not None else 0
        following = places[run[-1][0] + 1] if run[-1][0] + 1 < len(places) else None
        words = _words(text, start, len(text) if following is None else following[0])
        if len(words) == len(run):
            filled += words
        else:
            whole = (words[0][0], words[-1][1]) if words else None
            filled += [whole] * len(run)
    return filled


def _words(text: str, start: int, end: int) -> list[Offsets]:
    """The words between two places."""
    words: list[Offsets] = []
    at = start
    for part in text[start:end].split():
        at = text.index(part, at)
        words.append((at, at + len(part)))
        at += len(part)
    return words
