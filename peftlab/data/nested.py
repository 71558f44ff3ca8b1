"""Fields within fields: ``meta.body`` is the field ``body`` of the objects in the column ``meta``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from peftlab.core.errors import DataError, did_you_mean


def with_roots(columns: Collection[str]) -> set[str]:
    """The columns, and those that they could be fields of."""
    return {start for column in columns for start in _starts(column)}


def nested_column(
    columns: Mapping[str, Sequence[Any]], name: str, where: str, *, is_later_part: bool
) -> list[Any] | None:
    """The values of a field by its dotted name; of a list, ``answers.0.text`` takes the first item.

    Args:
        columns: Of the table.
        name: The dotted name.
        where: The table's name, for messages.
        is_later_part: Whether no row of these need have the field, since they are a later part of a table.

    Returns:
        None where no column is a start of the name.

    Raises:
        DataError: There is such a column, it holds something, and no row has the field.
    """
    root = next((start for start in _starts(name)[1:] if start in columns), None)
    if root is None:
        return None
    path = name[len(root) + 1 :].split(".")
    values = [_inner(value, path) for value in columns[root]]
    has_values = any(value is not None for value in columns[root])
    if has_values and not is_later_part and not any(found for _, found in values):
        inside = {key for value in columns[root] if isinstance(value, Mapping) for key in value}
        raise DataError(
            f"the column `{root}` has no field `{'.'.join(path)}`",
            where=where,
            hint=did_you_mean(path[0], inside) if inside else f"`{root}` holds no objects.",
        )
    return [value for value, _ in values]


def _starts(name: str) -> list[str]:
    """The name and all its starts, the longest first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _inner(value: Any, path: Sequence[str]) -> tuple[Any, bool]:
    """The value at the end of a path, and whether there is such a place."""
    for key in path:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None, False
    return value, True
