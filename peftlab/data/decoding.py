"""Bytes to text, with an error that tells which encoding the file may have.

Most encodings can read any bytes, so a wrong one garbles a file without a word. UTF-8 cannot be met by chance: bytes
that are meant to be in another encoding, but are UTF-8, are refused.
"""

from __future__ import annotations

import codecs
import io
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from peftlab.core.errors import DataError
from peftlab.data.file_types import HEAD_BYTES, hint_for_type, type_of_bytes
from peftlab.data.table_files import TableFile

_CANDIDATES = ("utf-8", "cp1252", "mac-roman", "latin-1", "gb18030", "shift_jis", "euc-kr", "koi8-r")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like the next one
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PROOF = 8
"""So many characters of several bytes make UTF-8 sure, whatever else the bytes could be."""


def read_text(file: TableFile, encoding: str) -> str:
    """Read a text file as it is: line ends stay, a byte order mark goes.

    Args:
        file: The file.
        encoding: Its character encoding.

    Raises:
        DataError: The file is empty, cannot be read, is no text, or is not in this encoding.
    """
    return decode(file.read_bytes(), encoding, where=file.name)


def decode(data: bytes, encoding: str, *, where: str) -> str:
    """The text of a whole file's bytes, as :func:`read_text` gives it.

    Raises:
        DataError: The bytes are another type of file or not in the encoding, or they hold NUL or nothing.
    """
    refuse_known_type(data[:HEAD_BYTES], where=where)
    watch = Utf8Watch(encoding, where)
    watch.read(data, is_all=True)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(data, error.start, encoding, where) from None
    except (UnicodeError, ValueError) as error:  # such as utf-16 without its mark
        raise DataError(f"not {encoding}: {error}", where=where, hint="Set `data.encoding`.") from None
    text = text.removeprefix("\ufeff")
    nul = text.find("\0")
    if nul >= 0:
        raise _nul(f"{where}, line {text.count(chr(10), 0, nul) + 1}")
    if not text or text.isspace():
        raise DataError("the file is empty", where=where)
    return text


def open_text(source: BinaryIO, encoding: str, *, newline: str, where: str) -> Iterator[str]:
    """The lines of a stream with their ends, as :func:`read_text` has them, and refused where it would refuse them.

    Args:
        source: The bytes. It stays open.
        encoding: Their character encoding.
        newline: As for :class:`io.TextIOWrapper`.
        where: The file's name, for messages.

    Raises:
        DataError: As for :func:`read_text`, but for bytes that are not in this encoding.
        UnicodeError: There are such; see :func:`undecodable_as_error`.
    """
    watched = io.BufferedReader(_Watched(source, Utf8Watch(encoding, where), where), 2**16)
    for number, line in enumerate(io.TextIOWrapper(watched, encoding=encoding, newline=newline), start=1):
        refuse_nul(line, where=f"{where}, line {number}")
        yield line.removeprefix("\ufeff") if number == 1 else line


def open_lines(source: BinaryIO, encoding: str, *, where: str) -> Iterator[str]:
    """The lines of a stream without their ends, as they come.

    Raises:
        DataError: As for :func:`open_text`, or a line is not in this encoding.
    """
    with undecodable_as_error(encoding, where=where):
        for line in open_text(source, encoding, newline="\n", where=where):
            yield line.rstrip("\r\n")


def text_lines(text: str) -> list[str]:
    """The lines of a text, which end with a line feed; where there is none, with a carriage return."""
    return text.split("\n" if "\n" in text else "\r")


@contextmanager
def undecodable_as_error(encoding: str, *, where: str) -> Iterator[None]:
    """Bytes of a stream that are not in its encoding become an error of the data.

    Raises:
        DataError: Instead of Python's own error.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if error.object.startswith(mark)), "cp1252")
        raise DataError(
            f"the byte 0x{error.object[error.start]:02x} is not {encoding}",
            where=where,
            hint=f"Set `data.encoding`, such as `data.encoding: {marked}`.",
        ) from None
    except UnicodeError as error:  # such as utf-16 without its mark
        raise DataError(f"not {encoding}: {error}", where=where, hint="Set `data.encoding`.") from None


def refuse_known_type(head: bytes, *, where: str) -> None:
    """Refuse bytes that are another type of file, and no text in any encoding.

    Raises:
        DataError: Naming the type.
    """
    found = type_of_bytes(head)
    if found is not None:
        raise DataError(f"this is a {found} file, not text", where=where, hint=hint_for_type(found))


class Utf8Watch:
    """Looks at bytes that another encoding is to read, and refuses them where they are UTF-8.

    Args:
        encoding: What is to read them.
        where: The file's name, for messages.
    """

    def __init__(self, encoding: str, where: str) -> None:
        self._encoding, self._where = encoding, where
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._found, self._sample = 0, ""
        # What reads each byte by itself reads text as UTF-8 by no chance at all; pairs of bytes may look like it.
        has_single_bytes = len(bytes(range(256)).decode(encoding, "replace")) == 256
        self._enough = 1 if has_single_bytes else _PROOF
        self._is_open = not codecs.lookup(encoding).name.startswith(("utf", "ascii"))

    def read(self, data: bytes, *, is_all: bool) -> None:
        """Look at the next bytes.

        Raises:
            DataError: They are UTF-8.
        """
        if not self._is_open:
            return
        try:
            text = self._decoder.decode(data, final=is_all)
        except UnicodeDecodeError:
            self._is_open = False
            return
        if not text.isascii():
            characters = [at for at, character in enumerate(text) if character > "\x7f"]
            self._found += len(characters)
            self._sample = self._sample or text[max(0, characters[0] - 10) : characters[0] + 10]
        if self._found >= (self._enough if is_all else _PROOF):
            raise self._garbled()

    def _garbled(self) -> DataError:
        read = self._sample.encode().decode(self._encoding, "replace")
        return DataError(
            f"the file is UTF-8, and {self._encoding} would garble it: “{_on_a_line(read)}” for "
            f"“{_on_a_line(self._sample)}”",
            where=self._where,
            hint="Set `data.encoding: utf-8`.",
        )


class _Watched(io.RawIOBase):
    def __init__(self, source: BinaryIO, watch: Utf8Watch, where: str) -> None:
        self._source, self._watch, self._where, self._is_new = source, watch, where, True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        # A pipe that pauses gives what it has.
        read = getattr(self._source, "read1", self._source.read)
        data: bytes = read(len(buffer))
        if self._is_new:
            refuse_known_type(data[:HEAD_BYTES], where=self._where)
            self._is_new = False
        self._watch.read(data, is_all=not data)
        buffer[: len(data)] = data
        return len(data)


def refuse_nul(text: str, *, where: str) -> None:
    """Refuse a text that holds a NUL character.

    Raises:
        DataError: It does.
    """
    if "\0" in text:
        raise _nul(where)


def _nul(where: str) -> DataError:
    return DataError(
        "the line holds a NUL character, so this is not text in this encoding",
        where=where,
        hint="Set `data.encoding` (utf-16?) or `data.format`.",
    )


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
        readings.setdefault(_on_a_line(around), candidate)
    return "; ".join(f"{name} reads “{shown}”" for shown, name in readings.items()) + "."


def _on_a_line(text: str) -> str:
    shown = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    return shown.strip()
