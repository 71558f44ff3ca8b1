"""How a delimited file is written, as far as nobody has said it: its beginning is read in each way that is usual.

A way fits where all rows have one number of fields, two at least. Of the ways that fit, the one whose header has most
of the wanted columns is taken, then the one that tears the fewest texts apart, then the one with the most fields, then
the one that the file's ending stands for.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

DELIMITERS = (",", ";", "\t", "|")
HEAD_LINES, HEAD_CHARACTERS = 200, 2**18
DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "|"}


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written.

    Args:
        delimiter: What stands between the fields; None: not known yet.
        quoting: Whether double quotes enclose fields.
        escape: What makes a quote in a field, or a delimiter, a plain character; None: a quote is doubled.
        header: Whether the first row holds names.
        column_names: Names of the columns, where the file has none.
        skips_blanks: Whether blanks stand between a delimiter and the next field, as in ``"a", "b"``.
    """

    delimiter: str | None
    quoting: bool = True
    escape: str | None = None
    header: bool = True
    column_names: tuple[str, ...] | None = None
    skips_blanks: bool = False

    @property
    def has_names(self) -> bool:
        """Whether the first row holds the columns' names."""
        return self.header and self.column_names is None

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Python's reader of such a file."""
        assert self.delimiter is not None  # noqa: S101 - `guess` has filled it in
        if self.escape is not None:
            lines = (_with_plain_escapes(line, self.escape, self.delimiter) for line in lines)
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE,
            escapechar=self.escape,
            skipinitialspace=self.skips_blanks,
            strict=True,  # else a quote that never ends swallows the rest of the file without a word
        )


def guess(dialect: Dialect, head: Sequence[str], *, is_all: bool, usual: str, wanted: Collection[str]) -> Dialect:
    """Fill in what is not known of a dialect.

    Args:
        dialect: What is known.
        head: The first lines.
        is_all: Whether there are no others.
        usual: The delimiter that the file's ending stands for.
        wanted: Columns that are needed.
    """
    if dialect.delimiter is not None and len(dialect.delimiter) > 1:
        return dialect
    delimiters = [usual, *(mark for mark in DELIMITERS if mark != usual)]
    if dialect.delimiter is not None:
        delimiters = [dialect.delimiter]
    fewest = 1 if len(delimiters) == 1 else 2
    escapes = [dialect.escape]
    if dialect.escape is None and dialect.quoting and any('\\"' in line for line in head):
        escapes.append("\\")
    for escape in escapes:
        ways = [replace(dialect, delimiter=delimiter, escape=escape) for delimiter in delimiters]
        if dialect.quoting:
            with_blanks = [way for way in ways if any(f'{way.delimiter} "' in line for line in head)]
            ways += [replace(way, skips_blanks=True) for way in with_blanks]
        read = {way: _rows_alike(way, head, is_all) for way in ways}
        fitting = {way: rows for way, rows in read.items() if rows and len(rows[0]) >= fewest}
        if fitting:
            best = max(  # the first of equal ones
                fitting,
                key=lambda way: (_names_found(way, head, wanted), -_torn(fitting[way]), len(fitting[way][0])),
            )
            escaped = replace(best, escape="\\")
            is_escaped = "\\" in escapes and escape is None and has_escaped_quotes("".join(head), best)
            return escaped if is_escaped and _rows_alike(escaped, head, is_all) else best
    ways = [replace(dialect, delimiter=delimiter) for delimiter in delimiters]
    return max(ways, key=lambda way: _names_found(way, head, wanted))


def has_escaped_quotes(text: str, dialect: Dialect) -> bool:
    """Whether backslashes stand before the quotes within fields that no quotes enclose, and before all of them.

    Where quotes are doubled, a field with a quote in it is enclosed: there a backslash before a single quote can only
    be the last character of a field.
    """
    ends = re.escape((dialect.delimiter or "") + "\r\n")
    escaped = re.search(rf'\\"[^"{ends}]', text)
    return escaped is not None and re.search(rf'[^\\"{ends}]"[^"{ends}]', text) is None


def _rows_alike(way: Dialect, head: Sequence[str], is_all: bool) -> list[list[str]]:
    """The rows, if all have one number of fields; empty where they differ, or cannot be read."""
    reader = way.reader(iter(head))
    rows: list[list[str]] = []
    try:
        rows.extend(row for row in reader if row)
    except csv.Error:
        if is_all or reader.line_num < len(head):  # type: ignore[attr-defined]
            return []
    widths = {len(row) for row in rows}
    if way.column_names is not None:
        widths.add(len(way.column_names))
    return rows if len(widths) == 1 else []


def _torn(rows: Sequence[Sequence[str]]) -> int:
    """Fields that look like pieces of a text: with an odd number of quotes, or a blank at their beginning."""
    return sum(field.count('"') % 2 + field.startswith(" ") for row in rows for field in row)


def _names_found(way: Dialect, head: Sequence[str], wanted: Collection[str]) -> int:
    if not way.has_names:
        return 0
    try:
        first = next((row for row in way.reader(iter(head)) if row), [])
    except csv.Error:
        return 0
    return len({name.strip() for name in first} & set(wanted))


def _with_plain_escapes(line: str, escape: str, delimiter: str) -> str:
    """The line with each escape doubled that escapes nothing: the csv module would drop it from a path."""
    if escape not in line:
        return line
    parts, at = [], 0
    while at < len(line):
        character = line[at]
        if character != escape:
            parts.append(character)
            at += 1
            continue
        following = line[at + 1 : at + 2]
        escapes = following in {escape, '"', delimiter, "\r", "\n"}
        parts.append(escape + following if escapes else escape * 2)
        at += 2 if escapes else 1
    return "".join(parts)
