"""CSV and TSV files. Everything stays a string, so that the label ``007`` is not the label ``7``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, TextIO

from peftlab.errors import DataError

_FIELD_LIMIT = Lock()
STREAMED_FIELD_LIMIT = 2**24


def parse_delimited(
    text: str, *, delimiter: str, quoting: bool, column_names: Sequence[str] | None, where: str
) -> dict[str, list[Any]]:
    """Read the columns of a delimited text. An empty field is a missing value (None), a blank line is no row.

    Args:
        text: The file's content.
        delimiter: What separates the fields.
        quoting: Whether double quotes enclose fields.
        column_names: Names where the file has no header; None: the first line holds them.
        where: The file's name, for messages.

    Raises:
        DataError: Naming the line: a wrong number of fields, a quote that never ends, a name that is there twice.
    """
    with _unlimited_fields(len(text)):
        rows = _rows(io.StringIO(text, newline=""), delimiter, quoting, where)
        names = list(column_names) if column_names is not None else _header(rows, where)
        columns: list[list[str | None]] = [[] for _ in names]
        for line, row in rows:
            if len(row) != len(names):
                raise _wrong_width(line, row, names, column_names is not None, quoting, where)
            for column, value in zip(columns, row, strict=True):
                column.append(value or None)
    return dict(zip(names, columns, strict=True))


def stream_delimited(
    stream: TextIO, *, delimiter: str, quoting: bool, column_names: Sequence[str] | None, where: str
) -> Iterator[dict[str, str | None]]:
    """The rows of a delimited text as they are read, by the rules of :func:`parse_delimited`.

    A field has at most 16 million characters, so that a quote which never ends does not take up all memory.

    Args:
        stream: Opened with ``newline=""``.
        delimiter: What separates the fields.
        quoting: Whether double quotes enclose fields.
        column_names: Names where the file has no header.
        where: The file's name, for messages.

    Raises:
        DataError: As for :func:`parse_delimited`.
    """
    with _FIELD_LIMIT:
        csv.field_size_limit(max(csv.field_size_limit(), STREAMED_FIELD_LIMIT))
    rows = _rows(stream, delimiter, quoting, where)
    names = list(column_names) if column_names is not None else _header(rows, where)
    for line, row in rows:
        if len(row) != len(names):
            raise _wrong_width(line, row, names, column_names is not None, quoting, where)
        yield {name: value or None for name, value in zip(names, row, strict=True)}


def _rows(stream: TextIO, delimiter: str, quoting: bool, where: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each starts, from 1."""
    if len(delimiter) > 1:  # more than Python's csv module can; such files have no quotes
        lines = (line.rstrip("\r\n") for line in stream)
        yield from ((number, line.split(delimiter)) for number, line in enumerate(lines, start=1) if line)
        return
    reader = csv.reader(
        stream,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
        strict=True,  # else a quote that never ends swallows the rest of the file without a word
    )
    start = 1
    try:
        for row in reader:
            if row:
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        hint = "If double quotes are plain characters in this file, set `data.quoting: false`."
        raise DataError(
            f"not delimited by {delimiter!r} as expected: {error}",
            where=f"{where}, line {start}",
            hint=hint if quoting else None,
        ) from None


@contextmanager
def _unlimited_fields(length: int) -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters a field, which is one setting for the whole process."""
    with _FIELD_LIMIT:
        before = csv.field_size_limit(max(length, 131_072))
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _header(rows: Iterator[tuple[int, list[str]]], where: str) -> list[str]:
    line, header = next(rows, (1, []))
    if not header:
        raise DataError("the file is empty", where=where)
    names = [name.strip() or f"unnamed_{position}" for position, name in enumerate(header, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the header has the column `{twice[0]}` twice", where=f"{where}, line {line}")
    return names


def _wrong_width(
    line: int, row: Sequence[str], names: Sequence[str], named: bool, quoting: bool, where: str
) -> DataError:
    holder = "`data.column_names`" if named else "the header"
    expected, found = len(names), len(row)
    hint = "Check `data.delimiter`, or mend the line."
    if not named and expected == 1:
        hint = "The header is one field: set `data.delimiter` to what separates the fields."
    elif not quoting:
        hint = "Check `data.delimiter`; if double quotes enclose fields, set `data.quoting: true`."
    fields = "field" if found == 1 else "fields"
    return DataError(f"{found} {fields} where {holder} has {expected}", where=f"{where}, line {line}", hint=hint)
