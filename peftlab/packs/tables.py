"""The Parquet files of a pack: written so that they are small, and the same for the same runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UserError
from peftlab.core.files import atomic_file
from peftlab.packs.read_pack import without_empty

if TYPE_CHECKING:
    import pyarrow as pa

ZSTD_LEVEL = 19
ROWS_PER_GROUP = 1 << 20


def write_predictions(tables: Mapping[str, pa.Table], path: Path) -> tuple[list[dict[str, str]], dict[str, int]]:
    """Write the predictions of all cells.

    Rows are sorted by example, then by cell: labels, which are the same in every cell, stand together.

    Args:
        tables: Of each cell.
        path: The file.

    Returns:
        The layouts, and which of them each cell has: see ``PackIndex``.
    """
    import pyarrow as pa

    names: dict[tuple[str, str], str] = {}
    layouts: list[dict[str, str]] = []
    chosen: dict[str, int] = {}
    parts = []
    for cell, table in tables.items():
        layout = {field.name: _column_name(names, field.name, str(field.type)) for field in table.schema}
        if layout not in layouts:
            layouts.append(layout)
        chosen[cell] = layouts.index(layout)
        part = table.rename_columns([layout[name] for name in table.column_names]).replace_schema_metadata(None)
        parts.append(part.add_column(0, "cell", pa.array([cell] * len(part), pa.string())))
    if not parts:
        parts = [pa.table({"cell": pa.array([], pa.string())})]
    joined = pa.concat_tables(parts, promote_options="default")
    # A stable sort: rows of one example and cell stay in their order.
    order = [(name, "ascending") for name in ("split", "index", "cell") if name in joined.column_names]
    _write(joined.sort_by(order), path)
    return layouts, chosen


def _column_name(names: dict[tuple[str, str], str], field: str, kind: str) -> str:
    """The field's own name for the type that is met first; others with a number behind it."""
    if (field, kind) not in names:
        others = sum(known == field for known, _ in names)
        names[field, kind] = f"{field}_{others + 1}" if others else field
    return names[field, kind]


def write_metrics(logs: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    """Write the lines of all metrics logs.

    Args:
        logs: Of each run, its lines.
        path: The file.

    Raises:
        UserError: A key is a number in one line and something else in another.
    """
    import pyarrow as pa

    rows = [line for lines in logs.values() for line in without_empty(lines)]
    table = pa.table({"run": pa.array([run for run, lines in logs.items() for _ in lines], pa.string())})
    try:
        columns = pa.Table.from_struct_array(pa.array(rows)) if any(rows) else pa.table({})
    except pa.ArrowException as error:
        raise UserError(f"the metrics logs hold values of several types under one key: {error}") from None
    for name in columns.column_names:
        table = table.append_column(name, columns[name])
    _write(table, path)


def write_trials(records: Mapping[str, str], path: Path) -> None:
    """Write the records of tuning's trials, as JSON."""
    import pyarrow as pa

    columns = {"run": list(records), "record": list(records.values())}
    _write(pa.table(columns, schema=pa.schema([("run", pa.string()), ("record", pa.string())])), path)


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The bytes of floats compress better apart: those of signs and exponents repeat, those of fractions do not.
    leaves = {
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name: (
            field.type.value_type if pa.types.is_list(field.type) else field.type
        )
        for field in table.schema
    }
    ascending = {name: "DELTA_BINARY_PACKED" for name in ("index",) if pa.types.is_integer(leaves.get(name, pa.null()))}
    with atomic_file(path) as partial:
        pq.write_table(
            table,
            partial,
            row_group_size=ROWS_PER_GROUP,
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            use_dictionary=[name for name, kind in leaves.items() if pa.types.is_string(kind)],
            use_byte_stream_split=[name for name, kind in leaves.items() if pa.types.is_floating(kind)],
            column_encoding=ascending,
            write_statistics=False,
            write_page_checksum=True,
        )
