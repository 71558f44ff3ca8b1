"""Parquet and Arrow files, through pyarrow."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO

from peftlab.core.errors import DataError, first_line


def read_columnar(
    source: BinaryIO, *, parquet: bool, keep: Collection[str] | None, where: str
) -> tuple[list[str], dict[str, list[Any]]]:
    """Read a Parquet file, or an Arrow file or stream (Feather included).

    Args:
        source: The file, open.
        parquet: Whether it is Parquet.
        keep: The columns to read; None: all.
        where: The file's name, for messages.

    Returns:
        The names of all columns, and the values of those to keep. Class numbers have become names where the file
        says what they are (as data sets of the Hub do).

    Raises:
        DataError: The file is not what it should be.
    """
    import pyarrow as pa

    kind = "Parquet" if parquet else "Arrow"
    try:
        names, table = (_read_parquet if parquet else _read_arrow)(source, keep, where)
        columns = {name: column_values(table.column(name)) for name in table.column_names}
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise DataError(f"not a {kind} file that can be read: {reason}", where=where) from None
    classes = _class_names(table.schema.metadata)
    return names, {name: name_classes(values, classes.get(name)) for name, values in columns.items()}


def stream_parquet(
    source: BinaryIO, *, keep: Collection[str], rows: int, where: str
) -> Iterator[tuple[list[str], dict[str, list[Any]]]]:
    """Parts of a Parquet file: the names of all columns, and the values of those to keep in at most ``rows`` rows.

    Raises:
        DataError: The file is not what it should be.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # With a buffer ahead, which pyarrow has by default, the whole file is in memory before its last row is read.
        with pq.ParquetFile(source, pre_buffer=False) as file:
            names = different_names(file.schema_arrow.names, where=where)
            classes = _class_names(file.schema_arrow.metadata)
            # Where none of the wanted columns is there, one is read, so that the rows can be counted.
            wanted = [name for name in names if name in keep] or names[:1]
            for batch in file.iter_batches(batch_size=rows, columns=wanted):
                table = pa.table(batch)
                yield (
                    names,
                    {
                        name: name_classes(column_values(table.column(name)), classes.get(name))
                        for name in table.column_names
                    },
                )
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise DataError(f"not a Parquet file that can be read: {reason}", where=where) from None


def parquet_rows(source: BinaryIO, *, where: str) -> int:
    """The number of rows, from the file's end.

    Raises:
        DataError: The file is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(source).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file that can be read: {first_line(error)}", where=where) from None


def different_names(names: Sequence[str], *, where: str) -> list[str]:
    """The names of a table's columns.

    Raises:
        DataError: One is there twice.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the table has two columns `{twice[0]}`", where=where, hint="Rename one of them.")
    return list(names)


def columns_of_dataset(rows: Any, chosen: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of a ``datasets.Dataset``, with names for class numbers."""
    arrow = rows.select_columns(list(chosen)).with_format("arrow")[:]
    return {
        column: name_classes(column_values(arrow.column(column)), _class_names_of(rows.features[column]))
        for column in chosen
    }


def _class_names_of(feature: Any) -> list[str] | None:
    """Names of the classes of a ``ClassLabel``, also inside a list."""
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return _class_names_of(inner)
    names = getattr(feature, "names", None)
    return [str(name) for name in names] if names else None


def column_values(column: Any) -> list[Any]:
    """The values of an Arrow column as Python objects; NaN is a missing value, as pandas writes it."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in column.to_pylist()]


def name_classes(values: list[Any], names: list[str] | None) -> list[Any]:
    """Turn class numbers (also inside lists) into names; -1, which the Hub writes for a hidden label, into None."""
    if names is None:
        return values

    def name(value: Any) -> Any:
        if isinstance(value, list):
            return [name(item) for item in value]
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None

    return [name(value) for value in values]


def _read_parquet(source: BinaryIO, keep: Collection[str] | None, where: str) -> tuple[list[str], Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as file:
        names = different_names(file.schema_arrow.names, where=where)
        return names, file.read(columns=[name for name in names if keep is None or name in keep])


def _read_arrow(source: BinaryIO, keep: Collection[str] | None, where: str) -> tuple[list[str], Any]:
    import pyarrow as pa
    import pyarrow.feather as feather

    data = source.read()
    if data.startswith(b"FEA1"):
        table = feather.read_table(io.BytesIO(data))
    elif data.startswith(b"ARROW1"):
        table = pa.ipc.open_file(data).read_all()
    else:  # the `datasets` library writes streams
        table = pa.ipc.open_stream(data).read_all()
    names = different_names(table.column_names, where=where)
    return names, table.select([name for name in names if keep is None or name in keep])


def _class_names(metadata: Any) -> dict[str, list[str]]:
    """Names of the classes by column, from the note that the ``datasets`` library leaves in a schema."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {name: _names_in(feature) for name, feature in features.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: names for name, names in found.items() if names}


def _names_in(feature: Any) -> list[str] | None:
    if isinstance(feature, list):  # an older spelling of a list of one kind
        return _names_in(feature[0]) if feature else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature["names"]]
    return _names_in(feature.get("feature"))
