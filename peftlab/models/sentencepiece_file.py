"""The pieces of a SentencePiece model, read without its library.

The file is a protocol buffer (https://protobuf.dev/programming-guides/encoding/) whose field 1, repeated, is a piece;
field 1 of a piece is its text (https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from peftlab.core.errors import SourceError

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
"""How a field's value is written."""
LONGEST_NUMBER = 63
"""Bits before the last seven: the format has no number of more than ten bytes."""


def read_pieces(file: Path) -> list[str]:
    """The pieces in the order of their ids.

    Raises:
        SourceError: The file is no SentencePiece model.
    """
    try:
        pieces = [
            text.decode("utf-8")
            for number, piece in _fields(file.read_bytes())
            if number == 1 and isinstance(piece, bytes)
            for inner, text in _fields(piece)
            if inner == 1 and isinstance(text, bytes)
        ]
    except (IndexError, ValueError) as error:
        raise SourceError(f"{file.name} is damaged: {error}", where=str(file.parent)) from None
    if not pieces:
        raise SourceError(f"{file.name} is damaged: it holds no pieces", where=str(file.parent))
    return pieces


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values of a message's fields."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = _varint(data, at)
        elif kind in (FIXED_32, FIXED_64):
            length = 4 if kind == FIXED_32 else 8
        else:
            raise ValueError(f"a field is of the unknown kind {kind}")
        if at + length > len(data):
            raise ValueError("it ends within a field")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in seven bits a byte, and the place behind it."""
    value = shift = 0
    while True:
        if shift > LONGEST_NUMBER:
            raise ValueError("a number in it has no end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
