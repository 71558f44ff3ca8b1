"""CSV and TSV files. Everything stays a string, so that the label ``007`` is not the label ``7``."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from threading import Lock
from typing import Any

from peftlab.core.errors import DataError
from peftlab.data.dialects import DELIMITER_NAMES, HEAD_CHARACTERS, HEAD_LINES, Dialect, guess, has_escaped_quotes

_FIELD_LIMIT = Lock()
STREAMED_FIELD_LIMIT = 2**24
_PART = 2**20
NAMELESS = "column_"
"""Columns without names are called ``column_1``, ``column_2`` and so on."""


def parse_delimited(
    text: str,
    dialect: Dialect,
    *,
    where: str,
    usual: str = ",",
    wanted: Collection[str] = (),
    report: Callable[[str], None] | None = None,
) -> dict[str, list[Any]]:
    """Read the columns of a delimited text. An empty field is a missing value (None), a blank line is no row.

    Args:
        text: The file's content.
        dialect: How it is written, as far as it is known.
        where: The file's name, for messages.
        usual: The delimiter that is expected where none is known.
        wanted: Columns that are needed: they tell between two ways to read the file.
        report: Is told how the file is read, where that had to be found out.

    Raises:
        DataError: Naming the line: a wrong number of fields, a quote that never ends, a name that is there twice.
    """
    with _unlimited_fields(len(text)):
        head, is_all = _head(_lines_of(text))
        found, skipped = _settled(dialect, head, is_all, usual, wanted)
        columns, error = _columns_or_error(text, found, skipped, where)
        # The first escaped quote may be beyond the lines that were looked at.
        if _may_be_escaped(found) and (has_escaped_quotes(text, found) if error is None else '\\"' in text):
            escaped = replace(found, escape="\\")
            second, other = _columns_or_error(text, escaped, skipped, where)
            if other is None:
                columns, error, found = second, None, escaped
        if error is not None:
            raise error
    _tell(dialect, found, usual, where, report)
    return columns


def stream_delimited(
    lines: Iterable[str],
    dialect: Dialect,
    *,
    where: str,
    usual: str = ",",
    wanted: Collection[str] = (),
) -> Iterator[dict[str, str | None]]:
    """The rows of a delimited text as they are read, by the rules of :func:`parse_delimited`.

    A field has at most 16 million characters, so that a quote which never ends does not take up all memory. How the
    file is written is found out from its first lines; a later line that is written in another way is refused.

    Args:
        lines: Their ends untouched, as of a file opened with ``newline=""``.
        dialect: How the text is written, as far as it is known.
        where: The file's name, for messages.
        usual: The delimiter that is expected where none is known.
        wanted: Columns that are needed.

    Raises:
        DataError: As for :func:`parse_delimited`.
    """
    with _FIELD_LIMIT:
        csv.field_size_limit(max(csv.field_size_limit(), STREAMED_FIELD_LIMIT))
    lines = iter(lines)
    head, is_all = _head(lines)
    found, skipped = _settled(dialect, head, is_all, usual, wanted)
    later = _without_escapes(lines, found, where, len(head)) if _may_be_escaped(found) else lines
    rows = _rows(chain(head[skipped:], later), found, where, first=skipped + 1)
    names, rows = _named(rows, found, where)
    for line, row in rows:
        if len(row) != len(names):
            raise _wrong_width(line, row, names, found, where)
        yield {name: value or None for name, value in zip(names, row, strict=True)}


def _without_escapes(lines: Iterator[str], dialect: Dialect, where: str, before: int) -> Iterator[str]:
    """The lines behind those by which the dialect was found; refused where they tell that backslashes escape quotes."""
    for number, line in enumerate(lines, start=before + 1):
        if '\\"' in line and has_escaped_quotes(line, dialect):
            raise DataError(
                "a backslash stands before a quote within a field, and none does in the first lines: the line may mean "
                "the quote alone, or both characters",
                where=f"{where}, line {number}",
                hint='If backslashes escape the quotes in this file, set `data.escape: "\\\\"`; if quotes and '
                "backslashes are plain characters in it, set `data.quoting: false`.",
            )
        yield line


def _columns(text: str, dialect: Dialect, skipped: int, where: str) -> dict[str, list[Any]]:
    lines = _lines_of(text)
    for _ in range(skipped):
        next(lines)
    names, rows = _named(_rows(lines, dialect, where, first=skipped + 1), dialect, where)
    columns: list[list[str | None]] = [[] for _ in names]
    for line, row in rows:
        if len(row) != len(names):
            raise _wrong_width(line, row, names, dialect, where)
        for column, value in zip(columns, row, strict=True):
            column.append(value or None)
    return dict(zip(names, columns, strict=True))


def _columns_or_error(
    text: str, dialect: Dialect, skipped: int, where: str
) -> tuple[dict[str, list[Any]], DataError | None]:
    try:
        return _columns(text, dialect, skipped, where), None
    except DataError as error:
        return {}, error


def _may_be_escaped(dialect: Dialect) -> bool:
    """Whether backslashes could escape quotes, though the dialect does not say so."""
    return dialect.escape is None and dialect.quoting and len(dialect.delimiter or ",") == 1


def _head(lines: Iterator[str]) -> tuple[list[str], bool]:
    """The first lines, and whether they are all."""
    head: list[str] = []
    count = 0
    for line in lines:
        head.append(line)
        count += len(line)
        if len(head) >= HEAD_LINES or count >= HEAD_CHARACTERS:
            return head, False
    return head, True


def _settled(
    dialect: Dialect, head: Sequence[str], is_all: bool, usual: str, wanted: Collection[str]
) -> tuple[Dialect, int]:
    """The dialect with all filled in, and how many lines come before the table: Excel writes ``sep=;`` there."""
    mark = re.fullmatch(r"\ufeff?sep=(.)\r?\n?", head[0]) if head and dialect.has_names else None
    if mark is not None and dialect.delimiter in {None, mark[1]}:
        dialect, head = replace(dialect, delimiter=mark[1]), head[1:]
    return guess(dialect, head, is_all=is_all, usual=usual, wanted=wanted), int(mark is not None)


def _tell(asked: Dialect, found: Dialect, usual: str, where: str, report: Callable[[str], None] | None) -> None:
    if report is None:
        return
    if asked.delimiter is None and found.delimiter not in {None, usual}:
        report(f"{where}: read with {DELIMITER_NAMES.get(found.delimiter, found.delimiter)} between the fields")
    if found.skips_blanks:
        report(f"{where}: read without the blanks before the fields")
    if asked.escape != found.escape:
        report(f"{where}: read with backslashes before the quotes within fields")


def _lines_of(text: str) -> Iterator[str]:
    """The lines with their ends untouched, by a part of the text at a time: StringIO takes four bytes a character."""
    start = 0
    while start < len(text):
        stop = text.find("\n", start + _PART) + 1 or len(text)
        yield from io.StringIO(text[start:stop], newline="")
        start = stop


def _rows(lines: Iterator[str], dialect: Dialect, where: str, *, first: int) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each starts."""
    delimiter = dialect.delimiter or ","
    if len(delimiter) > 1:  # more than Python's csv module can; such files have no quotes
        plain = (line.rstrip("\r\n") for line in lines)
        yield from ((number, line.split(delimiter)) for number, line in enumerate(plain, start=first) if line)
        return
    reader: Any = dialect.reader(iter(lines))
    start = first
    try:
        for row in reader:
            if row:
                yield start, row
            start = first + reader.line_num
    except csv.Error as error:
        hint = None
        if dialect.quoting:
            hint = "If double quotes are plain characters in this file, set `data.quoting: false`"
            hint += '; if a backslash stands before those within fields, set `data.escape: "\\\\"`.'
        raise DataError(
            f"not delimited by {delimiter!r} as expected: {error}", where=f"{where}, line {start}", hint=hint
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


def _named(
    rows: Iterator[tuple[int, list[str]]], dialect: Dialect, where: str
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The columns' names, and the rows below them."""
    line, first = next(rows, (1, []))
    if not first:
        raise DataError("the file is empty", where=where)
    if dialect.column_names is not None:
        names = list(dialect.column_names)
        # A file that has these names as its header all the same must not give them as a row.
        return names, rows if [name.strip() for name in first] == names else chain([(line, first)], rows)
    if not dialect.header:
        return nameless(len(first)), chain([(line, first)], rows)
    return checked_names(first, where=f"{where}, line {line}"), rows


def nameless(count: int) -> list[str]:
    """Names for so many columns that have none."""
    return [f"{NAMELESS}{position}" for position in range(1, count + 1)]


def checked_names(header: Sequence[str], *, where: str) -> list[str]:
    """The names of a header; a column without one is called by its position.

    Raises:
        DataError: A name is there twice.
    """
    names = [name.strip() or f"unnamed_{position}" for position, name in enumerate(header, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"the header has the column `{twice[0]}` twice",
            where=where,
            hint="If this is no header, but the first row, set `data.header: false`.",
        )
    return names


def _wrong_width(line: int, row: Sequence[str], names: Sequence[str], dialect: Dialect, where: str) -> DataError:
    holder = "the header" if dialect.has_names else "the first row"
    holder = "`data.column_names`" if dialect.column_names is not None else holder
    expected, found = len(names), len(row)
    hint = "Check `data.delimiter`, or mend the line."
    if any('\\"' in value or value.endswith("\\") for value in row) and dialect.escape is None:
        hint = 'If backslashes escape the quotes in this file, set `data.escape: "\\\\"` and leave out `data.quoting`.'
    elif dialect.has_names and expected == 1:
        hint = (
            "The header is one field: set `data.delimiter` to what separates the fields. If each line is a text, set "
            "`data.format: text`."
        )
    elif not dialect.quoting:
        hint = "Check `data.delimiter`; if double quotes enclose fields, set `data.quoting: true`."
    fields = "field" if found == 1 else "fields"
    return DataError(f"{found} {fields} where {holder} has {expected}", where=f"{where}, line {line}", hint=hint)
