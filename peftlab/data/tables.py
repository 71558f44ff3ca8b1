"""Files as tables: one reader for every format, and folders, archives and files that hold several splits."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from peftlab.core.errors import DataError
from peftlab.core.reporter import ProgressCallback
from peftlab.data.class_folders import (
    LABEL_COLUMN,
    class_folders,
    column_of,
    columns_of_classes,
    refuse_other_folders,
    split_folders,
)
from peftlab.data.columnar import read_columnar
from peftlab.data.conll import parse_conll
from peftlab.data.data_config import DataConfig, SplitName, TableFormat
from peftlab.data.decoding import read_text
from peftlab.data.delimited import parse_delimited
from peftlab.data.dialogue import CONVERSATIONS, parse_conversations
from peftlab.data.excel import chosen_sheet, read_sheet, sheet_names
from peftlab.data.formats import ENDINGS, format_of, usual_delimiter
from peftlab.data.json_shapes import unwrapped
from peftlab.data.json_tables import columns_of_json, parse_json_document, parse_json_lines
from peftlab.data.saved_datasets import is_saved_dataset, read_saved_dataset
from peftlab.data.table import Table
from peftlab.data.table_files import TableFile, is_junk, table_files, the_only_file
from peftlab.data.text_files import COLUMN, TextRows, read_text_rows

_NOTES = ("readme", "license", "licence", "citation", "notes")
_USUAL_NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched", "eval"),
    "test": ("test", "testing"),
}


def read_table(
    path: Path | str, config: DataConfig, *, keep: Collection[str] | None = None, report: ProgressCallback | None = None
) -> Table:
    """Read one file as one table.

    Args:
        path: A CSV, TSV, JSON, JSONL, Parquet, Arrow, Excel or CoNLL file, or a packed one (gzip, bzip2, xz, Zstandard,
            zip).
        config: Says how the file is written.
        keep: The columns to keep; None: all. Columns that are not there are no error here.
        report: Is told how a file is read, where that had to be found out.

    Raises:
        DataError: The file is empty, is not what its format says, or cannot be decoded; with the line.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError("this is a folder; a file is needed", where=str(path))
    return _read_file(the_only_file(path), config, keep, report)


def read_tables(
    path: Path | str, config: DataConfig, *, keep: Collection[str] | None = None, report: ProgressCallback | None = None
) -> dict[str, Table]:
    """Read all splits that a path holds, under the names that the source gives them.

    A folder's files are splits by their names (``train.csv``, ``dev.csv``; ``train-00000-of-00002.parquet`` is a part
    of one), and so are an archive's files, a workbook's sheets, and folders in it that are called like splits. A folder
    of folders of texts holds a class in each.
    A JSON object of lists is a table of columns, or holds splits where ``data.splits`` says so, or where a list is
    called ``train`` and holds rows. Any other file is one table.

    Args:
        path: A file or folder.
        config: Says how files are written.
        keep: The columns to keep; None: all.
        report: Is told how a file is read, where that had to be found out.

    Returns:
        One table under the name ``""`` where there are no splits, else a table per split.

    Raises:
        DataError: As for :func:`read_table`; or the folder holds no tables.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, config, keep, report)
    files = table_files(path)
    if len(files) > 1:
        tables = [file for file in files if file.suffix in ENDINGS]
        return _read_files(_without_notes(tables), config, keep, report, where=path, several=len(files))
    (file,) = files
    kind = format_of(file, config)
    if kind == "json":
        value = unwrapped(parse_json_document(read_text(file, config.encoding), where=file.name))
        if _holds_splits(value, config):
            return {str(name): _json_table(rows, config, f"{file.name}: {name}", keep) for name, rows in value.items()}
        return {"": _json_table(value, config, file.name, keep)}
    if kind == "xlsx" and config.sheet is None:
        sheets = sheet_names(file)
        chosen = set((config.splits or usual_splits(sheets)).values()) & set(sheets)
        if chosen and (config.splits is not None or "train" in usual_splits(sheets)):
            if config.splits is None:
                _tell_left(path, [sheet for sheet in sheets if sheet not in chosen], report)
            return {sheet: _sheet_table(file, sheet, config, keep) for sheet in sheets if sheet in chosen}
    return {"": _read_file(file, config, keep, report)}


def usual_splits(names: Iterable[str]) -> dict[SplitName, str]:
    """Which of a source's names are train, validation and test, by how data sets are usually written."""
    known = list(names)
    found: dict[SplitName, str] = {}
    for split, usual in _USUAL_NAMES.items():
        candidates = [name for word in usual for name in known if name.lower() == word]
        if candidates:
            found[split] = candidates[0]
    return found


def _read_file(
    file: TableFile, config: DataConfig, keep: Collection[str] | None, report: ProgressCallback | None
) -> Table:
    kind, where = format_of(file, config), file.name
    if kind in {"parquet", "arrow"}:
        if file.member is None and file.path.stat().st_size == 0:
            raise DataError("the file is empty", where=where)
        with file.open_seekable() as source:
            names, columns = read_columnar(source, parquet=kind == "parquet", keep=keep, where=where)
        return _table(where, columns, names, keep, kind)
    if kind == "xlsx":
        return _sheet_table(file, chosen_sheet(file, config.sheet), config, keep)
    if kind == "text":
        return _table(where, {COLUMN: read_text_rows(file, config.encoding)}, [COLUMN], keep, kind)
    columns = _parse(read_text(file, config.encoding), kind, config, where, keep, report)
    return _table(where, columns, list(columns), keep, kind)


def _sheet_table(file: TableFile, sheet: str, config: DataConfig, keep: Collection[str] | None) -> Table:
    columns = read_sheet(file, sheet, config.dialect)
    return _table(f"{file.name}: {sheet}", columns, list(columns), keep, "xlsx")


def _parse(
    text: str,
    kind: TableFormat,
    config: DataConfig,
    where: str,
    keep: Collection[str] | None,
    report: ProgressCallback | None,
) -> dict[str, list[Any]]:
    if kind == "json":
        value = unwrapped(parse_json_document(text, where=where))
        return columns_of_json(value, column_names=config.column_names, where=where)
    if kind == "yaml":
        return {CONVERSATIONS: parse_conversations(text, where=where)}
    if kind == "jsonl":
        return parse_json_lines(text, column_names=config.column_names, where=where)
    if kind == "conll":
        return dict(parse_conll(text, column_names=config.column_names, where=where))
    return parse_delimited(
        text, config.dialect, where=where, usual=usual_delimiter(kind), wanted=keep or (), report=report
    )


def _table(
    name: str,
    columns: Mapping[str, Sequence[Any]],
    names: list[str],
    keep: Collection[str] | None,
    kind: TableFormat,
) -> Table:
    kept = {column: values for column, values in columns.items() if keep is None or column in keep}
    # Where none of the wanted columns is there, one stays, so that the number of rows is still known.
    kept = kept or dict(list(columns.items())[:1])
    table = Table(name, kept, tuple(names), frozenset({kind}))
    if names and kept and len(table) == 0:
        raise DataError("there are no rows below the header" if columns else "there are no rows", where=name)
    if not names:
        raise DataError("there are no rows", where=name)
    return table


def _json_table(value: Any, config: DataConfig, where: str, keep: Collection[str] | None) -> Table:
    columns = columns_of_json(value, column_names=config.column_names, where=where)
    return _table(where, columns, list(columns), keep, "json")


def _holds_splits(value: Any, config: DataConfig) -> bool:
    if not (isinstance(value, dict) and value and all(isinstance(rows, list) for rows in value.values())):
        return False
    if config.splits is not None:
        return True
    train = value.get(usual_splits(value).get("train", ""))
    return bool(train) and all(isinstance(row, dict | list) for row in train or [])


def _read_folder(
    folder: Path, config: DataConfig, keep: Collection[str] | None, report: ProgressCallback | None
) -> dict[str, Table]:
    if is_saved_dataset(folder):
        return read_saved_dataset(folder, keep=keep)
    files = [TableFile(path) for path in sorted([*folder.glob("*"), *folder.glob("data/*")]) if _is_table(path)]
    tables = [file for file in files if not _is_note(file)]
    classes = class_folders(folder)
    # Files beside the classes' folders may be lists of where the texts come from; else they are what is meant.
    if classes and (not tables or (LABEL_COLUMN in (keep or ()) and all(file.suffix == ".txt" for file in tables))):
        refuse_other_folders(folder, classes)
        return {
            name: _table(
                f"{folder.name}: {name}" if name else folder.name,
                columns_of_classes(texts, config.encoding, folder),
                [column_of(texts), LABEL_COLUMN],
                keep,
                "text",
            )
            for name, texts in classes.items()
        }
    splits = [] if files else [child for child in split_folders(folder) if any(map(_is_table, child.iterdir()))]
    if splits:
        return {child.name: _table_of_split(child, config, keep, report) for child in splits}
    return _read_files(_without_notes(files), config, keep, report, where=folder, several=len(files))


def _table_of_split(
    folder: Path, config: DataConfig, keep: Collection[str] | None, report: ProgressCallback | None
) -> Table:
    """The one table of a folder that is called like a split."""
    tables = read_tables(folder, config.model_copy(update={"splits": None}), keep=keep, report=report)
    if len(tables) > 1:
        raise DataError(
            f"the folder holds several tables: {', '.join(tables)}",
            where=str(folder),
            hint="Give one of them for each split: `data.source: {train: …, test: …}`.",
        )
    return next(iter(tables.values()))


def _is_table(path: Path) -> bool:
    return path.is_file() and not is_junk(path.name) and TableFile(path).suffix in ENDINGS


def _without_notes(files: list[TableFile]) -> list[TableFile]:
    """The files that are not about the others, unless there are no others."""
    return [file for file in files if not _is_note(file)] or files


def _is_note(file: TableFile) -> bool:
    return PurePosixPath(file.unpacked_name).stem.lower() in _NOTES


def _read_files(
    files: list[TableFile],
    config: DataConfig,
    keep: Collection[str] | None,
    report: ProgressCallback | None,
    *,
    where: Path,
    several: int,
) -> dict[str, Table]:
    """The files of a folder or an archive as splits by their names, or as one table of texts."""
    chosen = files
    if config.splits is None and len(files) > 1:
        chosen = [file for file in files if usual_splits([_split_in_name(file)])] or files
        _tell_left(where, [file.member or file.path.name for file in files if file not in chosen], report)
    parts: dict[str, list[Table]] = {}
    if config.splits is None and _are_documents(chosen, config):
        return {"": _concatenate([_read_file(file, config, keep, report) for file in chosen], where.name, keep)}
    wanted = [file for file in chosen if config.splits is None or _split_in_name(file) in config.splits.values()]
    _refuse_copies(wanted, where)
    for file in wanted:
        parts.setdefault(_split_in_name(file), []).append(_read_file(file, config, keep, report))
    if not parts:
        names = [file.member or file.path.name for file in files[:12]]
        hint = f"There are: {', '.join(names)}." if names else "Give the path of a file."
        deeper = [child.name for child in sorted(where.iterdir()) if child.is_dir()] if where.is_dir() else []
        if deeper and not names:
            hint = f"Its folders are called {', '.join(deeper[:8])}: give one of them, or those of `train` and `test`."
        what = "the folder holds no tables" if where.is_dir() else f"the archive of {several} files holds no tables"
        raise DataError(
            what if not files else "no file has a name of `data.splits`",
            where=str(where),
            hint=hint,
        )
    return {
        name: _concatenate(tables, f"{where.name}: {name}" if name else where.name, keep)
        for name, tables in parts.items()
    }


def _refuse_copies(files: Sequence[TableFile], where: Path) -> None:
    """Refuse ``test.csv`` beside ``test.json``: most likely they hold the same rows, which would count twice."""
    known: dict[str, TableFile] = {}
    for file in files:
        stem = PurePosixPath(file.unpacked_name).stem
        other = known.setdefault(stem, file)
        if other is not file:
            raise DataError(
                f"two files are called {stem}: {other.member or other.path.name}, {file.member or file.path.name}",
                where=str(where),
                hint="Say which is meant, such as `data.source: {train: …, test: …}`.",
            )


def _tell_left(where: Path, names: Sequence[str], report: ProgressCallback | None) -> None:
    if names and report is not None:
        shown = ", ".join([*names[:8], *(["…"] if len(names) > 8 else [])])
        report(f"{where.name}: not read, since the name is no split's: {shown}")


def _are_documents(files: Sequence[TableFile], config: DataConfig) -> bool:
    """Whether a folder's files are texts or dialogues, and none is named like a split: then they are one table."""
    if not files or any(format_of(file, config) not in {"text", "yaml"} for file in files):
        return False
    return not usual_splits([_split_in_name(file) for file in files])


def _split_in_name(file: TableFile) -> str:
    """A file's name without what numbers the parts of a split; older ones of the Hub have a digest behind it.

    Spark and the Hub also write parts whose names are numbers alone: they are of one table, which has no name.
    """
    stem = PurePosixPath(file.unpacked_name).stem
    if re.fullmatch(r"part[-_.]?\d+.*|0\d+", stem):
        return ""
    return re.sub(r"-\d+-of-\d+(-[0-9a-f]{16})?$", "", stem)


def _concatenate(tables: list[Table], name: str, keep: Collection[str] | None) -> Table:
    """The rows of all parts. Columns that are not in every part are left out, unless they are wanted."""
    if len(tables) == 1:
        return tables[0]
    names = [column for column in tables[0].names if all(column in table.names for table in tables)]
    for table in tables:
        odd = sorted({*table.names}.difference(names).intersection(keep or ()))
        if odd:
            parts = ", ".join(part.name for part in tables if odd[0] not in part.names)
            raise DataError(f"the column `{odd[0]}` is not in every part of the table", where=parts)
    if not names:
        raise DataError(f"no column is in all {len(tables)} files, so they are no parts of one table", where=name)
    columns = {
        column: _joined([table.columns[column] for table in tables])
        for column in names
        if all(column in table.columns for table in tables)
    }
    if not columns:  # none is wanted: any of each part counts its rows
        columns = {names[0]: [None] * sum(map(len, tables))}
    return Table(name, columns, tuple(names), frozenset[str]().union(*(table.formats for table in tables)))


def _joined(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    if all(isinstance(column, TextRows) for column in columns):
        return TextRows.joined(columns)  # type: ignore[arg-type]
    return [value for column in columns for value in column]
