"""Excel workbooks (.xlsx), through openpyxl, a row at a time.

Cells are what Excel's own CSV export would make of them, as texts: the label 7 is the same in both. A workbook keeps
all texts in one place, which is read first and held; the rows are not.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from warnings import catch_warnings, simplefilter

from peftlab.core.errors import DataError, did_you_mean, first_line
from peftlab.data.delimited import checked_names, nameless
from peftlab.data.dialects import Dialect
from peftlab.data.table_files import TableFile
from peftlab.data.wheels import largest_unpacked

Row = dict[str, str | None]


def sheet_names(file: TableFile) -> list[str]:
    """The names of the sheets that hold anything.

    Raises:
        DataError: It is no workbook.
    """
    with _workbook(file) as book:
        return [sheet.title for sheet in book.worksheets if next(_filled_rows(sheet), None) is not None]


def chosen_sheet(file: TableFile, asked: str | None) -> str:
    """The sheet to read where one table is wanted.

    Raises:
        DataError: There is no such sheet, or several and none is asked for.
    """
    names = sheet_names(file)
    if not names:
        raise DataError("the file is empty", where=file.name)
    if asked is not None and asked not in names:
        raise DataError(f"there is no sheet `{asked}`", where=file.name, hint=did_you_mean(asked, names))
    if asked is None and len(names) > 1:
        raise DataError(
            f"the workbook has {len(names)} sheets: {', '.join(names[:12])}",
            where=file.name,
            hint=f"Say which one is meant, such as `data.sheet: {names[0]}`.",
        )
    return asked or names[0]


def read_sheet(file: TableFile, sheet: str, dialect: Dialect) -> dict[str, list[str | None]]:
    """The columns of a sheet, as :func:`stream_sheet` reads them."""
    columns: dict[str, list[str | None]] = {}
    for row in stream_sheet(file, sheet, dialect):
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def stream_sheet(file: TableFile, sheet: str, dialect: Dialect) -> Iterator[Row]:
    """The rows of a sheet; rows and columns without anything in them are none.

    Args:
        file: The workbook.
        sheet: The sheet's name.
        dialect: Whether the first row holds the names.

    Raises:
        DataError: A name is there twice, or a row is longer than the header.
    """
    with _workbook(file) as book:
        rows = _filled_rows(book[sheet])
        number, first = next(rows)
        width = len(first)
        if dialect.column_names is not None:
            names = list(dialect.column_names)
        elif dialect.header:
            names = checked_names([value or "" for value in first], where=f"{file.name}, row {number}")
        else:
            names = nameless(width)
        if not dialect.has_names and first != names:
            yield _named(number, first, names, file.name)
        for number, row in rows:
            yield _named(number, row, names, file.name)


def _named(number: int, row: Sequence[str | None], names: Sequence[str], where: str) -> Row:
    if len(row) > len(names):
        raise DataError(
            f"{len(row)} cells where the first row has {len(names)}",
            where=f"{where}, row {number}",
            hint="Give every column a name in the first row, or set `data.header: false` if it is no header.",
        )
    return dict(zip(names, [*row, *[None] * (len(names) - len(row))], strict=True))


def _filled_rows(sheet: Any) -> Iterator[tuple[int, list[str | None]]]:
    """Rows with anything in them, up to their last cell that has something, with their numbers from 1."""
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        row = [_text(cell) for cell in cells]
        while row and row[-1] is None:
            row.pop()
        if row:
            yield number, row


def _text(cell: Any) -> str | None:
    """A cell as Excel writes it to a CSV file; an error such as #N/A is a missing value."""
    value = cell.value
    if value is None or getattr(cell, "data_type", "") == "e":
        return None
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    text = value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
    return text or None


@contextmanager
def _workbook(file: TableFile) -> Iterator[Any]:
    import openpyxl

    with file.open_seekable() as stream, _damage_as_error(file):
        with zipfile.ZipFile(stream) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > largest_unpacked(file.path):
            raise DataError(f"the workbook would unpack to {unpacked:,} bytes, too many for a table", where=file.name)
        stream.seek(0)
        with catch_warnings():
            simplefilter("ignore")  # of styles and extensions, which are not read
            # The values that Excel computed last, not the formulas.
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
        try:
            yield book
        finally:
            book.close()


@contextmanager
def _damage_as_error(file: TableFile) -> Iterator[None]:
    """Whatever openpyxl, its reader of XML or the archive meet in a file, also in a sheet's later rows."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - each of the three has errors of its own, which share nothing
        raise DataError(
            f"not an Excel workbook (.xlsx) that can be read: {first_line(error)}", where=file.name
        ) from None
