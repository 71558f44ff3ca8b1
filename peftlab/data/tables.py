"""Files as tables: one reader for every format, and folders or JSON files that hold several splits."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from peftlab.data.columnar import read_columnar
from peftlab.data.config import DataConfig, SplitName, TableFormat
from peftlab.data.conll import parse_conll
from peftlab.data.decoding import read_bytes, read_text
from peftlab.data.delimited import parse_delimited
from peftlab.data.dialogue import CONVERSATIONS, parse_conversations
from peftlab.data.json_tables import columns_of_json, parse_json_document, parse_json_lines
from peftlab.data.text_files import COLUMN, TextRows, read_text_rows
from peftlab.errors import DataError

_ENDINGS: dict[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".conll": "conll",
    ".iob": "conll",
    ".bio": "conll",
    ".txt": "text",
    ".yml": "yaml",
    ".yaml": "yaml",
}
_USUAL_NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched", "eval"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Table:
    """Rows as columns.

    Args:
        name: For messages: the file's name.
        columns: Column name to values, all of one length.
        names: The names of all columns of the source, also of those that were not read.
    """

    name: str
    columns: Mapping[str, Sequence[Any]]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


def read_table(path: Path, config: DataConfig, *, keep: Collection[str] | None = None) -> Table:
    """Read one file as one table.

    Args:
        path: A CSV, TSV, JSON, JSONL, Parquet, Arrow or CoNLL file.
        config: Says how the file is written.
        keep: The columns to keep; None: all. Columns that are not there are no error here.

    Raises:
        DataError: The file is empty, is not what its format says, or cannot be decoded; with the line.
    """
    if path.is_dir():
        raise DataError("this is a folder; a file is needed", where=str(path))
    kind = format_of(path, config)
    where = path.name
    if kind in {"parquet", "arrow"}:
        read_bytes(path, where=where)
        names, columns = read_columnar(path, parquet=kind == "parquet", keep=keep, where=where)
        return _table(where, columns, names, keep)
    if kind == "text":
        return _table(where, {COLUMN: read_text_rows(path, config.encoding)}, [COLUMN], keep)
    columns = _parse(read_text(path, config.encoding, where=where), kind, config, where)
    return _table(where, columns, list(columns), keep)


def read_tables(path: Path, config: DataConfig, *, keep: Collection[str] | None = None) -> dict[str, Table]:
    """Read all splits that a path holds, under the names that the source gives them.

    A folder's files are splits by their names (``train.csv``, ``dev.csv``; ``train-00000-of-00002.parquet`` is a part
    of one). A JSON object of lists is a table of columns, or holds splits where ``data.splits`` says so, or where a
    list is called ``train`` and holds rows. Any other file is one table.

    Args:
        path: A file or folder.
        config: Says how files are written.
        keep: The columns to keep; None: all.

    Returns:
        One table under the name ``""`` where there are no splits, else a table per split.

    Raises:
        DataError: As for :func:`read_table`; or the folder holds no tables.
    """
    if path.is_dir():
        return _read_folder(path, config, keep)
    if format_of(path, config) == "json":
        value = parse_json_document(read_text(path, config.encoding, where=path.name), where=path.name)
        if _holds_splits(value, config):
            return {str(name): _json_table(rows, config, f"{path.name}: {name}", keep) for name, rows in value.items()}
        return {"": _json_table(value, config, path.name, keep)}
    return {"": read_table(path, config, keep=keep)}


def usual_splits(names: Iterable[str]) -> dict[SplitName, str]:
    """Which of a source's names are train, validation and test, by how data sets are usually written."""
    known = list(names)
    found: dict[SplitName, str] = {}
    for split, usual in _USUAL_NAMES.items():
        candidates = [name for word in usual for name in known if name.lower() == word]
        if candidates:
            found[split] = candidates[0]
    return found


def format_of(path: Path, config: DataConfig) -> TableFormat:
    """How a file is written: what the config says, else what its ending says.

    Raises:
        DataError: The ending says nothing.
    """
    if config.format != "auto":
        return config.format
    found = _ENDINGS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(get_args(TableFormat))
        raise DataError(
            f"the ending {path.suffix or 'of the name'} does not tell how the file is written",
            where=path.name,
            hint=f"Set `data.format` to one of {known}.",
        )
    return found


def _parse(text: str, kind: TableFormat, config: DataConfig, where: str) -> dict[str, list[Any]]:
    if kind == "json":
        return columns_of_json(parse_json_document(text, where=where), column_names=config.column_names, where=where)
    if kind == "yaml":
        return {CONVERSATIONS: parse_conversations(text, where=where)}
    if kind == "jsonl":
        return parse_json_lines(text, column_names=config.column_names, where=where)
    if kind == "conll":
        return dict(parse_conll(text, column_names=config.column_names, where=where))
    return parse_delimited(
        text,
        delimiter=config.delimiter or ("\t" if kind == "tsv" else ","),
        quoting=config.quoting,
        column_names=config.column_names,
        where=where,
    )


def _table(name: str, columns: Mapping[str, Sequence[Any]], names: list[str], keep: Collection[str] | None) -> Table:
    kept = {column: values for column, values in columns.items() if keep is None or column in keep}
    # Where none of the wanted columns is there, one stays, so that the number of rows is still known.
    kept = kept or dict(list(columns.items())[:1])
    table = Table(name, kept, tuple(names))
    if names and kept and len(table) == 0:
        raise DataError("there are no rows below the header" if columns else "there are no rows", where=name)
    if not names:
        raise DataError("there are no rows", where=name)
    return table


def _json_table(value: Any, config: DataConfig, where: str, keep: Collection[str] | None) -> Table:
    columns = columns_of_json(value, column_names=config.column_names, where=where)
    return _table(where, columns, list(columns), keep)


def _holds_splits(value: Any, config: DataConfig) -> bool:
    if not (isinstance(value, dict) and value and all(isinstance(rows, list) for rows in value.values())):
        return False
    if config.splits is not None:
        return True
    train = value.get(usual_splits(value).get("train", ""))
    return bool(train) and all(isinstance(row, dict | list) for row in train or [])


def _read_folder(folder: Path, config: DataConfig, keep: Collection[str] | None) -> dict[str, Table]:
    files = [file for file in sorted([*folder.glob("*"), *folder.glob("data/*")]) if file.suffix.lower() in _ENDINGS]
    if config.splits is None and len(files) > 1:
        files = [file for file in files if usual_splits([_split_in_name(file)])] or files
    parts: dict[str, list[Table]] = {}
    if config.splits is None and _are_documents(files, config):
        return {"": _concatenate([read_table(file, config, keep=keep) for file in files], folder.name)}
    for file in files:
        if config.splits is None or _split_in_name(file) in config.splits.values():
            parts.setdefault(_split_in_name(file), []).append(read_table(file, config, keep=keep))
    if not parts:
        hint = f"There are: {', '.join(file.name for file in files[:12])}." if files else "Give the path of a file."
        raise DataError(
            "the folder holds no tables" if not files else "no file has a name of `data.splits`",
            where=str(folder),
            hint=hint,
        )
    return {name: _concatenate(tables, f"{folder.name}: {name}") for name, tables in parts.items()}


def _are_documents(files: Sequence[Path], config: DataConfig) -> bool:
    """Whether a folder's files are texts or dialogues, and none is named like a split: then they are one table."""
    if not files or any(format_of(file, config) not in {"text", "yaml"} for file in files):
        return False
    return not usual_splits([_split_in_name(file) for file in files])


def _split_in_name(file: Path) -> str:
    return re.sub(r"-\d+-of-\d+$", "", file.stem)


def _concatenate(tables: list[Table], name: str) -> Table:
    if len(tables) == 1:
        return tables[0]
    first, *others = tables
    for other in others:
        if set(other.names) != set(first.names):
            odd = sorted(set(other.names) ^ set(first.names))
            raise DataError(f"the column `{odd[0]}` is not in every part of the split", where=other.name)
    columns = {column: _joined([table.columns[column] for table in tables]) for column in first.columns}
    return Table(name, columns, first.names)


def _joined(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    if all(isinstance(column, TextRows) for column in columns):
        return functools.reduce(TextRows.joined, columns)  # type: ignore[arg-type]
    return [value for column in columns for value in column]


__all__ = ["Table", "format_of", "read_table", "read_tables", "usual_splits"]
