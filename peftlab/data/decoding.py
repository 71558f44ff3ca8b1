"""Bytes to text, with an error that tells which encoding the file may have."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

from peftlab.errors import DataError

_CANDIDATES = ("utf-8", "cp1252", "mac-roman", "latin-1", "gb18030", "shift_jis", "euc-kr", "koi8-r")
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_text(path: Path, encoding: str, *, where: str) -> str:
    """Read a text file as it is: line ends stay, a byte order mark goes.

    Args:
        path: The file.
        encoding: Its character encoding.
        where: The file's name, for messages.

    Raises:
        DataError: The file is empty, cannot be read, is no text, or is not in this encoding.
    """
    data = read_bytes(path, where=where)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(data, error.start, encoding, where) from None
    except (UnicodeError, ValueError) as error:  # such as utf-16 without its mark
        raise DataError(f"not {encoding}: {error}", where=where, hint="Set `data.encoding`.") from None
    text = text.removeprefix("\ufeff")
    nul = text.find("\0")
    if nul >= 0:
        raise DataError(
            "the line holds a NUL character, so this is no text file in this encoding",
            where=f"{where}, line {text.count(chr(10), 0, nul) + 1}",
            hint="Set `data.encoding` (utf-16?) or `data.format`.",
        )
    if not text.strip():
        raise DataError("the file is empty", where=where)
    return text


def read_bytes(path: Path, *, where: str) -> bytes:
    """Read a file.

    Raises:
        DataError: It is empty, or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=where) from None
    if not data:
        raise DataError("the file is empty", where=where)
    return data


def _undecodable(data: bytes, start: int, encoding: str, where: str) -> DataError:
    line = data.count(b"\n", 0, start) + 1
    return DataError(
        f"the byte 0x{data[start]:02x} at offset {start} (line {line}) is not {encoding}",
        where=where,
        hint=f"Set `data.encoding`. {_readings(data, start, encoding)}",
    )


def _readings(data: bytes, start: int, encoding: str) -> str:
    """How the encodings that can read the whole file would read the place in question: a person sees which is right."""
    for mark, name in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark) and name != encoding:
            return f"The file starts like {name}."
    readings: dict[str, str] = {}
    for candidate in _CANDIDATES:
        try:
            data.decode(candidate)
        except (UnicodeDecodeError, LookupError):
            continue
        around = data[max(0, start - 12) : start + 8].decode(candidate, errors="replace")
        shown = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in around)
        readings.setdefault(shown, candidate)
    return "; ".join(f"{name} reads “{shown.strip()}”" for shown, name in readings.items()) + "."
