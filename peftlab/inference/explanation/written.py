"""Tokens as the user wrote them: the tokenizer's pieces laid over the text, and joined where one character is several.

A word that the vocabulary lacks is shown as itself, not as ``[UNK]``, and an emoji of which byte-level tokenizers make
three or four pieces is one piece. The places come from the character offsets of fast tokenizers; tokens of a slow one
are looked for in the text, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from peftlab.inference.explanation.offsets import searched_offsets
from peftlab.tasks.language.user_text import encode_as_text, written_text

MARKS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "↵"}
"""What stands for a piece that shows nothing."""


@dataclass(frozen=True)
class Piece:
    """A part of a text, or a token that the tokenizer put in by itself.

    Args:
        text: As the user wrote it.
        positions: Of its tokens.
        after_blank: Whether a blank, or the text's beginning, stands before it.
    """

    text: str
    positions: list[int]
    after_blank: bool


@dataclass(frozen=True)
class _Place:
    """Where a token lies: in which text, from which character to which."""

    text: int
    start: int
    end: int


def pieces_as_written(tokenizer: Any, input_ids: Sequence[int], texts: Sequence[str]) -> list[Piece]:
    """The pieces of an encoded example, in order.

    Args:
        tokenizer: Whose tokens they are.
        input_ids: Of the example.
        texts: That the user wrote, in the order in which they were encoded; their ends may be cut.
    """
    written = [written_text(tokenizer, text) for text in texts]
    places = _places(tokenizer, input_ids, written)
    clusters = [_inner_boundaries(text) for text in written]
    groups: list[list[int]] = []
    for position in range(len(input_ids)):
        before = places.get(groups[-1][-1]) if groups else None
        here = places.get(position)
        if before and here and _belong_together(before, here, written[here.text], clusters[here.text]):
            groups[-1].append(position)
        else:
            groups.append([position])
    return [_piece(tokenizer, input_ids, group, places, written) for group in groups]


def _places(tokenizer: Any, input_ids: Sequence[int], texts: Sequence[str]) -> dict[int, _Place]:
    """Where the tokens of the texts lie; those that the tokenizer put in have no place."""
    places: dict[int, _Place] = {}
    start = 0
    for number, text in enumerate(texts):
        encoded = encode_as_text(tokenizer, text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
        ids = list(encoded["input_ids"])
        offsets = encoded["offset_mapping"] if tokenizer.is_fast else searched_offsets(tokenizer, ids, text)
        # Of a text that was cut, the beginning or the end is left.
        matcher = SequenceMatcher(None, list(input_ids), ids, autojunk=False)
        found = matcher.find_longest_match(start, len(input_ids), 0, len(ids))
        for step in range(found.size):
            place = offsets[found.b + step]
            if place is not None:
                places[found.a + step] = _Place(number, *place)
        start = found.a + found.size
    return places


def _inner_boundaries(text: str) -> set[int]:
    """Places within what a reader takes for one character: between an emoji and its skin colour, or its accent."""
    import regex

    inner: set[int] = set()
    for cluster in regex.finditer(r"\X", text):
        inner.update(range(cluster.start() + 1, cluster.end()))
    return inner


def _belong_together(before: _Place, here: _Place, text: str, inner: set[int]) -> bool:
    """Whether two tokens make up one character, or the first is nothing but a blank before the other."""
    if before.text != here.text:
        return False
    return here.start < before.end or here.start in inner or not text[before.start : before.end].strip(" ")


def _piece(
    tokenizer: Any, input_ids: Sequence[int], group: list[int], places: dict[int, _Place], texts: Sequence[str]
) -> Piece:
    found = [places[position] for position in group if position in places]
    token = str(tokenizer.convert_ids_to_tokens(input_ids[group[0]]))
    if not found:
        return Piece(token if token.strip() else "".join(MARKS.get(mark, "␣") for mark in token), group, True)
    text = texts[found[0].text]
    start, end = found[0].start, max(place.end for place in found)
    shown = text[start:end]
    after_blank = start == 0 or text[start - 1].isspace() or shown[:1].isspace()
    visible = shown.strip() or "".join(MARKS.get(character, "␣") for character in shown)
    return Piece(visible or token, group, after_blank)
