"""Where answers go as they come: CSV, JSON Lines or Parquet files, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peftlab.core.destination import check_file
from peftlab.core.errors import UserError, did_you_mean
from peftlab.core.files import atomic_file

ENDINGS = (".csv", ".jsonl", ".parquet")
GROUP = 4096
"""Rows of a Parquet row group."""


def check_output(path: Path, *, inputs: Iterable[Path | str] = (), force: bool = False) -> None:
    """Refuse a file that must not, or could not, be written, before any work is done.

    Args:
        path: The file.
        inputs: What is read; it is never written to.
        force: An existing file may be replaced.

    Raises:
        UserError: The ending is none of those known, or the file may not be written.
    """
    if path.suffix.lower() not in ENDINGS and not path.is_dir():
        hint = did_you_mean(path.suffix.lower(), ENDINGS)
        raise UserError("the ending does not tell how to write the file", where=str(path), hint=hint)
    check_file(path, inputs=inputs, force=force)


def write_answers(path: Path | str, answers: Iterable[Mapping[str, Any]]) -> int:
    """Write answers as they come; the file appears when the last one is in it.

    Nested values (scores by class, entities) are JSON in CSV files.

    Returns:
        How many there were.
    """
    path = Path(path)
    with atomic_file(path) as partial:
        if path.suffix.lower() == ".parquet":
            return _write_parquet(partial, answers)
        with partial.open("w", encoding="utf-8", newline="") as file:
            return _write_csv(file, answers) if path.suffix.lower() == ".csv" else _write_lines(file, answers)


def _write_lines(file: io.TextIOBase, answers: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for count, answer in enumerate(answers, start=1):  # noqa: B007 - the last one is returned
        file.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return count


def _write_csv(file: io.TextIOBase, answers: Iterable[Mapping[str, Any]]) -> int:
    writer, count = None, 0
    for count, answer in enumerate(answers, start=1):  # noqa: B007
        if writer is None:
            writer = csv.DictWriter(file, list(answer))
            writer.writeheader()
        writer.writerow({key: _cell(value) for key, value in answer.items()})
    return count


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _write_parquet(path: Path, answers: Iterable[Mapping[str, Any]]) -> int:
    """The first rows settle the types; of several labels or entities, an empty list alone would not."""
    count, writer = 0, None
    group: list[Mapping[str, Any]] = []

    def flush() -> None:
        nonlocal writer
        columns = {name: _column(name, group, writer and writer.schema.field(name)) for name in group[0]}
        table = pa.Table.from_arrays(list(columns.values()), list(columns))
        if writer is None:
            writer = pq.ParquetWriter(path, pa.schema([_settled(field) for field in table.schema]))
            table = table.cast(writer.schema)
        writer.write_table(table)
        group.clear()

    try:
        for count, answer in enumerate(answers, start=1):  # noqa: B007
            group.append(answer)
            if len(group) == GROUP:
                flush()
        if group:
            flush()
    finally:
        if writer is not None:
            writer.close()
    return count


def _column(name: str, rows: Sequence[Mapping[str, Any]], field: Any) -> Any:
    """A column of some rows; where some hold texts and others lists, as inputs may, the lists are JSON as in CSV files.

    Args:
        name: Of the column.
        rows: That hold it.
        field: Its type, which rows before have settled; None: these do.
    """
    values, kind = [row.get(name) for row in rows], None if field is None else field.type
    if kind is not None and pa.types.is_list(kind) and any(isinstance(value, str) for value in values):
        raise UserError(  # pyarrow would take a text for the list of its letters
            f"the column `{name}` holds lists in the first {GROUP:,} rows and texts in later ones: no Parquet file can",
            where="--output",
            hint="Write a .jsonl or a .csv file.",
        )
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([_cell(value) for value in values], pa.string())


_ENTITY = pa.struct(
    {
        "type": pa.string(),
        "score": pa.float64(),
        "first_word": pa.int64(),
        "end_word": pa.int64(),
        "text": pa.string(),
        "start": pa.int64(),
        "end": pa.int64(),
    }
)


def _settled(field: Any) -> Any:
    if field.name == "entities":
        return pa.field(field.name, pa.list_(_ENTITY))
    if pa.types.is_null(field.type):  # an optional column that no row of the first ones has
        return pa.field(field.name, pa.string())
    return pa.field(field.name, pa.list_(pa.string())) if field.type == pa.list_(pa.null()) else field
