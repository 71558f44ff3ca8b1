"""Plain text files as rows that stay on disk: only the place of each row is held, and a row is read when asked for.

A row is a paragraph: what stands between blank lines. A file without blank lines has its lines as rows.
"""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, overload

from peftlab.core.errors import DataError
from peftlab.data.decoding import Utf8Watch, read_text, refuse_known_type, refuse_nul, text_lines
from peftlab.data.file_types import HEAD_BYTES
from peftlab.data.table_files import TableFile

COLUMN = "text"
ASCII_COMPATIBLE = frozenset({"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252", "mac-roman", "koi8-r"})
"""Encodings in which a line feed is one byte that is nothing else: their rows are found without decoding."""
AROUND = "\ufeff \t\r\n\v\f"
"""What is no part of a row where it begins or ends."""


class TextRows(Sequence[str]):
    """Rows of text files.

    Args:
        files: The files.
        encoding: Of all of them.
        places: For each row the number of its file, its first byte, and how many there are.
    """

    def __init__(self, files: Sequence[Path], encoding: str, places: Sequence[tuple[int, int, int]]) -> None:
        self._files, self._encoding = list(files), encoding
        self._file, self._start, self._count = (array("Q", (place[at] for place in places)) for at in range(3))

    def take(self, positions: Sequence[int]) -> TextRows:
        """Some of the rows."""
        return TextRows(self._files, self._encoding, [self._place(position) for position in positions])

    @classmethod
    def joined(cls, parts: Sequence[TextRows]) -> TextRows:
        """The rows of all, which have one encoding."""
        files: list[Path] = []
        places: list[tuple[int, int, int]] = []
        for part in parts:
            shift = len(files)
            files += part._files
            places += [(file + shift, start, count) for file, start, count in map(part._place, range(len(part)))]
        return cls(files, parts[0]._encoding, places)

    def __len__(self) -> int:
        return len(self._start)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return list(self._texts(range(*row.indices(len(self)))))
        return next(self._texts([row]))

    def __iter__(self) -> Iterator[str]:
        return self._texts(range(len(self)))

    def _texts(self, rows: Iterable[int]) -> Iterator[str]:
        """The texts of some rows; a file is opened once for all of its rows that stand behind one another."""
        with ExitStack() as stack:
            opened: tuple[int, BinaryIO] | None = None
            for file, start, count in map(self._place, rows):
                if opened is None or opened[0] != file:
                    stack.close()
                    opened = file, stack.enter_context(self._files[file].open("rb"))
                stream = opened[1]
                stream.seek(start)
                yield _tidy(stream.read(count).decode(self._encoding))

    def _place(self, row: int) -> tuple[int, int, int]:
        return self._file[row], self._start[row], self._count[row]


def read_text_rows(file: TableFile, encoding: str) -> Sequence[str]:
    """The rows of a text file; of a packed one they are held in memory, since it cannot be read from its middle.

    Raises:
        DataError: The file is empty, or holds bytes that are not of its encoding; with the line.
    """
    is_simple = codecs.lookup(encoding).name in ASCII_COMPATIBLE and not file.is_packed
    if not is_simple or not file.path.stat().st_size:
        rows: Sequence[str] = _rows_of(read_text(file, encoding))
    else:
        places = _paragraphs(file, encoding)
        rows = TextRows([file.path], encoding, [(0, *place) for place in places])
        if len(rows) == 1 and "\r" in rows[0]:  # of a Mac of the last century, whose lines end so; or one long line
            rows = _rows_of(read_text(file, encoding))
    if not rows:
        raise DataError("the file is empty", where=file.name)
    return rows


def _paragraphs(file: TableFile, encoding: str) -> list[tuple[int, int]]:
    """First byte and number of bytes of each paragraph, or of each line where there is only one paragraph."""
    paragraphs: list[tuple[int, int]] = []
    lines: list[tuple[int, int]] = []
    offset, open_paragraph = 0, False
    watch = Utf8Watch(encoding, file.name)
    with file.path.open("rb") as stream:
        refuse_known_type(stream.read(HEAD_BYTES), where=file.name)
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            watch.read(line, is_all=False)
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError:
                read_text(file, encoding)  # raises, and says which encoding it may be
                raise
            refuse_nul(text, where=f"{file.name}, line {number}")
            blank = not text.strip(AROUND)
            if not blank and open_paragraph:
                start, _ = paragraphs[-1]
                paragraphs[-1] = (start, offset + len(line) - start)
            elif not blank:
                paragraphs.append((offset, len(line)))
            if not blank and len(paragraphs) < 2:
                lines.append((offset, len(line)))
            open_paragraph = not blank
            offset += len(line)
    watch.read(b"", is_all=True)
    return lines if len(paragraphs) == 1 else paragraphs


def _rows_of(text: str) -> list[str]:
    paragraphs: list[list[str]] = [[]]
    for line in text_lines(text):
        if line.strip(AROUND):
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    full = [lines for lines in paragraphs if lines]
    return [_tidy(row) for row in (full[0] if len(full) == 1 else map("\n".join, full))]


def _tidy(row: str) -> str:
    return row.replace("\r\n", "\n").strip(AROUND)
