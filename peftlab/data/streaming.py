"""Tables of any size, a chunk of rows at a time: for using a model, where training needs the whole table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from peftlab.core.errors import DataError
from peftlab.core.files import near_names
from peftlab.core.splits import Split
from peftlab.data.class_folders import LABEL_COLUMN, class_folders, class_rows, column_of, refuse_other_folders
from peftlab.data.columnar import parquet_rows, stream_parquet
from peftlab.data.columns import check_columns, split_of_table
from peftlab.data.data_config import DataConfig
from peftlab.data.decoding import open_text, undecodable_as_error
from peftlab.data.delimited import stream_delimited
from peftlab.data.excel import chosen_sheet, stream_sheet
from peftlab.data.formats import format_of, usual_delimiter
from peftlab.data.given import GivenRows
from peftlab.data.images import image_chunks
from peftlab.data.json_tables import stream_json_lines
from peftlab.data.nested import with_roots
from peftlab.data.numbers import DecimalWatch, plain_numbers
from peftlab.data.saved_datasets import is_saved_dataset, stream_saved_dataset
from peftlab.data.table import Table
from peftlab.data.table_files import TableFile, the_only_file
from peftlab.data.tables import read_table

CHUNK_ROWS = 1024
"""So many rows are sorted by length together, and are in memory at once."""

Later = Callable[[Collection[str]], Collection[str]]
"""Which of some names, that the first rows lack, any later row has."""


def _no_later(_: Collection[str]) -> Collection[str]:
    """Nothing is known of later rows, or all rows have the same names."""
    return ()


@dataclass(frozen=True)
class RowStream:
    """The rows of a table, to be gone through once.

    Args:
        name: For messages.
        total: Units of progress in all; 0 where it is not known.
        unit: What the units are: ``rows`` or ``kB``.
        chunks: Each with the units of progress up to its end.
    """

    name: str
    total: int
    unit: str
    chunks: Iterator[tuple[Table, int]]


def stream_file(
    path: Path | str,
    config: DataConfig,
    *,
    keep: Sequence[str],
    number_columns: Sequence[str] = (),
    image_columns: Sequence[str] = (),
) -> RowStream:
    """Open a table.

    CSV, TSV, JSON Lines, Parquet and Excel files are read as they are needed, packed or not, and so are folders of
    texts and saved data sets. Other formats are read whole: in JSON, what is a row is known only at the end.

    Args:
        path: The file, or a folder that is one table.
        config: Says how it is written.
        keep: The columns that are needed.
        number_columns: Those that hold numbers: commas before decimals become points, as the rows so far tell.
        image_columns: Those that hold images; their paths start in the table's folder.

    Raises:
        DataError: There is no such file, or it is not what its format says (also later, while it is read).
    """
    path, keep = Path(path), sorted(with_roots(keep))
    stream = _open(path, config, keep)
    chunks = _with_plain_numbers(stream.chunks, number_columns, config) if number_columns else stream.chunks
    root = path if path.is_dir() else path.parent
    return replace(stream, chunks=image_chunks(chunks, image_columns, root) if image_columns else chunks)


def _open(path: Path, config: DataConfig, keep: Sequence[str]) -> RowStream:
    if path.is_dir():
        return _stream_folder(path, config, keep)
    if not path.is_file():
        raise DataError("no such file", where=str(path), hint=near_names(path))
    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=path.name)
    file = the_only_file(path)
    kind, where, size = format_of(file, config), file.name, _kilobytes(path.stat().st_size)
    if kind == "parquet":
        with file.open_seekable() as source:
            total = parquet_rows(source, where=where)
        return RowStream(where, total, "rows", _parquet_chunks(file, keep, where))
    if kind in {"csv", "tsv", "jsonl"}:
        return RowStream(where, size, "kB", _file_chunks(file, config, kind, keep))
    if kind == "xlsx":
        rows = stream_sheet(file, chosen_sheet(file, config.sheet), config.dialect)
        return RowStream(where, 0, "rows", _chunks(rows, keep, where, lambda done: done))
    table = read_table(path, config, keep=keep)
    return RowStream(where, len(table), "rows", _table_chunks(table))


def stream_standard_input(
    source: BinaryIO, config: DataConfig, *, keep: Sequence[str], image_columns: Sequence[str]
) -> RowStream:
    """CSV, TSV or JSON Lines from a pipe; the format must be said. Its rows may name any image.

    Raises:
        DataError: The format is another one.
    """
    if config.format not in {"csv", "tsv", "jsonl"}:
        raise DataError(
            f"the format {config.format} cannot be read from standard input",
            hint="Give csv, tsv or jsonl, or a file's name.",
        )
    name, keep = "standard input", sorted(with_roots(keep))
    chunks = _text_chunks(source, config, config.format, keep, name, lambda rows: rows)
    return RowStream(name, 0, "rows", image_chunks(chunks, image_columns, Path(), is_confined=False))


def stream_rows(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    keep: Sequence[str],
    total: int = 0,
    image_columns: Sequence[str] = (),
) -> RowStream:
    """Rows from anywhere else, such as a command's arguments; they may name any image."""
    chunks = _chunks(iter(rows), sorted(with_roots(keep)), name, lambda count: count)
    return RowStream(name, total, "rows", image_chunks(chunks, image_columns, Path(), is_confined=False))


def stream_given(
    given: GivenRows,
    config: DataConfig,
    *,
    keep: Sequence[str],
    number_columns: Sequence[str],
    image_columns: Sequence[str],
) -> RowStream:
    """The rows of the one table that a program has given; arguments as for :func:`stream_file`."""
    columns = next(iter(given.tables.values()))
    kept = {name: values for name, values in columns.items() if name in with_roots(keep)}
    table = Table(given.kind, kept or dict(list(columns.items())[:1]), tuple(columns))
    chunks = image_chunks(_table_chunks(table), image_columns, Path(), is_confined=False)
    return RowStream(given.kind, len(table), "rows", _with_plain_numbers(chunks, number_columns, config))


def splits_of(
    stream: RowStream,
    text_columns: Sequence[str],
    label_columns: Sequence[str],
    tidy: Callable[[Split], Split] = lambda split: split,
) -> Iterator[tuple[Split, int]]:
    """The chunks as splits whose columns have been checked, with the units of progress up to the end of each.

    The rows are counted through all chunks.

    Args:
        stream: The rows.
        text_columns: Hold texts.
        label_columns: Hold what is to be predicted.
        tidy: Writes in one way what tables write in several, before the columns are checked.

    Raises:
        DataError: A column is not there, a text is none, or a label is missing.
    """
    for split, done in unchecked_splits_of(stream, [*text_columns, *label_columns]):
        split = tidy(split)
        check_columns(split, text_columns, label_columns)
        yield split, done


def unchecked_splits_of(
    stream: RowStream, columns: Sequence[str], *, optional: Collection[str] = ()
) -> Iterator[tuple[Split, int]]:
    """The chunks as splits whose values may be anything; optional columns that are not there are all None.

    Raises:
        DataError: A column is not there, or there are no rows.
    """
    start = 0
    for table, done in stream.chunks:
        part = split_of_table("data", table, columns, optional=tuple(optional), is_later_part=start > 0)
        split = Split("data", range(start, start + len(table)), part.columns, stream.name)
        start += len(table)
        yield split, done
    if start == 0:
        raise DataError("there are no rows", where=stream.name)


def whole_split_of(stream: RowStream, name: str, columns: Sequence[str], *, optional: Collection[str] = ()) -> Split:
    """All chunks together, as :func:`unchecked_splits_of` gives them: for tasks whose examples are not rows.

    Args:
        stream: The rows.
        name: Of the split.
        columns: To read.
        optional: Those of them that may be missing.

    Raises:
        DataError: A column is not there, or there are no rows.
    """
    parts = [part for part, _ in unchecked_splits_of(stream, columns, optional=optional)]
    values = {column: [value for part in parts for value in part.columns[column]] for column in columns}
    return Split(name, range(sum(map(len, parts))), values, stream.name)


def _with_plain_numbers(
    chunks: Iterator[tuple[Table, int]], columns: Sequence[str], config: DataConfig
) -> Iterator[tuple[Table, int]]:
    watches: dict[str, DecimalWatch] = {}
    for table, done in chunks:
        values = dict(table.columns)
        for name in columns:
            if name in values:
                watch = watches.setdefault(name, DecimalWatch(name, table.name, config.decimal, is_one_table=True))
                values[name] = plain_numbers(values[name], watch.read(values[name]))
        yield replace(table, columns=values), done


def _stream_folder(folder: Path, config: DataConfig, keep: Sequence[str]) -> RowStream:
    """A saved data set of one split, or a folder of texts or images for each class."""
    if is_saved_dataset(folder):
        total, tables = stream_saved_dataset(folder, keep=keep, rows=CHUNK_ROWS)
        return RowStream(folder.name, total, "rows", _counted(tables))
    classes = class_folders(folder)
    if not classes:
        raise DataError("this is a folder; a file is needed", where=str(folder))
    if set(classes) != {""}:
        raise DataError(
            f"the folder holds several splits: {', '.join(classes)}",
            where=str(folder),
            hint=f"Give the folder of one of them, such as {folder / next(iter(classes))}.",
        )
    refuse_other_folders(folder, classes)
    column = column_of(classes[""])
    items = class_rows(classes[""], config.encoding, folder)
    rows = ({column: item, LABEL_COLUMN: name} for item, name in items)
    total = sum(map(len, classes[""].values()))
    return RowStream(folder.name, total, "rows", _chunks(rows, keep, folder.name, lambda done: done))


def _counted(tables: Iterable[Table]) -> Iterator[tuple[Table, int]]:
    done = 0
    for table in tables:
        done += len(table)
        yield table, done


def _file_chunks(file: TableFile, config: DataConfig, kind: str, keep: Sequence[str]) -> Iterator[tuple[Table, int]]:
    def later(names: Collection[str]) -> Collection[str]:
        return _names_in_lines(file, config, names) if kind == "jsonl" else ()

    with file.open() as (source, position):
        yield from _text_chunks(source, config, kind, keep, file.name, lambda _: _kilobytes(position()), later)


def _names_in_lines(file: TableFile, config: DataConfig, names: Collection[str]) -> Collection[str]:
    """Those of some names that any line of a file of JSON Lines has; it is read until all are found."""
    found: set[str] = set()
    # A line that cannot be read is told when its turn comes: the answers before it can be given.
    with suppress(DataError), file.open() as (source, _):
        for row in _text_rows(source, config, "jsonl", (), file.name):
            found.update(row.keys() & names)
            if len(found) == len(names):
                break
    return found


def _text_chunks(
    source: BinaryIO,
    config: DataConfig,
    kind: str,
    keep: Sequence[str],
    where: str,
    progress: Callable[[int], int],
    later: Later = _no_later,
) -> Iterator[tuple[Table, int]]:
    yield from _chunks(_text_rows(source, config, kind, keep, where), keep, where, progress, later)


def _text_rows(
    source: BinaryIO, config: DataConfig, kind: str, keep: Sequence[str], where: str
) -> Iterator[Mapping[str, Any]]:
    # JSON Lines end at \n only: U+2028 and its like may stand inside a string.
    text = open_text(source, config.encoding, newline="\n" if kind == "jsonl" else "", where=where)
    with undecodable_as_error(config.encoding, where=where):
        if kind == "jsonl":
            yield from stream_json_lines(text, column_names=config.column_names, where=where)
        else:
            yield from stream_delimited(text, config.dialect, where=where, usual=usual_delimiter(kind), wanted=keep)


def _chunks(
    rows: Iterator[Mapping[str, Any]],
    keep: Sequence[str],
    name: str,
    progress: Callable[[int], int],
    later: Later = _no_later,
) -> Iterator[tuple[Table, int]]:
    done = 0
    names: list[str] = []  # of JSON Lines, a chunk may lack a column that others have
    while part := list(islice(rows, CHUNK_ROWS)):
        names = list(dict.fromkeys([*names, *(key for row in part for key in row)]))
        if not done and len(part) == CHUNK_ROWS:
            missing = {column for column in keep if with_roots([column]).isdisjoint(names)}
            names += sorted(later(missing)) if missing else ()
        columns = {key: [row.get(key) for row in part] for key in names if key in keep}
        # Where none of the wanted columns is there, one stays, so that the rows can be counted.
        columns = columns or {key: [row.get(key) for row in part] for key in names[:1]}
        done += len(part)
        yield Table(name, columns, tuple(names)), progress(done)


def _parquet_chunks(file: TableFile, keep: Sequence[str], where: str) -> Iterator[tuple[Table, int]]:
    with file.open_seekable() as source:
        parts = stream_parquet(source, keep=keep, rows=CHUNK_ROWS, where=where)
        yield from _counted(Table(where, columns, tuple(names)) for names, columns in parts)


def _table_chunks(table: Table) -> Iterator[tuple[Table, int]]:
    for start in range(0, len(table), CHUNK_ROWS):
        columns = {name: values[start : start + CHUNK_ROWS] for name, values in table.columns.items()}
        yield Table(table.name, columns, table.names), min(start + CHUNK_ROWS, len(table))


def _kilobytes(count: int) -> int:
    return max(1, count // 1000)
