"""JSON and JSON Lines files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from peftlab.core.errors import DataError

_SHAPES = "A table is a list of objects, or an object of columns of one length."


def parse_json_document(text: str, *, where: str) -> Any:
    """Parse a JSON file. NaN and infinities, which JSON does not have, are missing values.

    Raises:
        DataError: Naming the line; also of an object that has a name twice.
    """
    try:
        return _loaded(text)
    except json.JSONDecodeError as error:
        lines = text[: error.pos].count("\n") + 1
        hint = "The file holds one object a line: set `data.format: jsonl`." if error.msg == "Extra data" else None
        raise DataError(f"not JSON: {error.msg}", where=f"{where}, line {lines}", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON that can be read: {error}", where=where) from None


def columns_of_json(value: Any, *, column_names: Sequence[str] | None, where: str) -> dict[str, list[Any]]:
    """The columns of a list of objects, a list of lists (named by ``column_names``), or an object of columns.

    Raises:
        DataError: The value has another shape.
    """
    if isinstance(value, list):
        return _columns_of_rows(enumerate(value, start=1), column_names, where, unit="item")
    if isinstance(value, Mapping) and all(isinstance(column, list) for column in value.values()):
        lengths = {name: len(column) for name, column in value.items()}
        if len(set(lengths.values())) <= 1:
            return {str(name): list(column) for name, column in value.items()}
        shown = ", ".join(f"`{name}` {length}" for name, length in list(lengths.items())[:8])
        raise DataError(
            f"the lists differ in length: {shown}",
            where=where,
            hint="If they are splits, say which is which: `data.splits: {train: …}`.",
        )
    raise DataError("the JSON holds no table", where=where, hint=_SHAPES)


def parse_json_lines(text: str, *, column_names: Sequence[str] | None, where: str) -> dict[str, list[Any]]:
    """The columns of a file with one JSON object a line; blank lines are skipped.

    Raises:
        DataError: Naming the line.
    """
    rows = (
        (number, _parsed_line(line, f"{where}, line {number}"))
        for number, line in enumerate(_lines_of(text), start=1)
        if line.strip()
    )
    return _columns_of_rows(rows, column_names, where, unit="line")


def _lines_of(text: str) -> Iterator[str]:
    """One by one. Not splitlines(): U+2028 and its like may stand inside a JSON string."""
    start = 0
    while start < len(text):
        stop = text.find("\n", start)
        stop = len(text) if stop < 0 else stop
        yield text[start:stop]
        start = stop + 1


def stream_json_lines(
    stream: Iterable[str], *, column_names: Sequence[str] | None, where: str
) -> Iterator[Mapping[str, Any]]:
    """The rows of a text with one JSON object a line, as they are read; blank lines are skipped.

    Raises:
        DataError: Naming the line.
    """
    for number, line in enumerate(stream, start=1):
        if line.strip():
            place = f"{where}, line {number}"
            yield _named_values(_parsed_line(line, place), column_names, place)


def _parsed_line(line: str, place: str) -> Any:
    try:
        return _loaded(line)
    except json.JSONDecodeError as error:
        hint = "A line holds one object." if error.msg == "Extra data" else None
        if line.strip() in ("{", "[", "[{"):
            hint = "If the whole file is one list of objects, set `data.format: json`."
        raise DataError(f"not JSON: {error.msg}", where=place, hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON that can be read: {error}", where=place) from None


def _loaded(text: str) -> Any:
    return json.loads(text, parse_constant=lambda _: None, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; Python's reader would take the last of several values of one name, without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the name `{next(name for name in names if names.count(name) > 1)}` twice")
    return found


def _columns_of_rows(
    rows: Iterable[tuple[int, Any]], column_names: Sequence[str] | None, where: str, *, unit: str
) -> dict[str, list[Any]]:
    """The columns of rows, each with its number for messages."""
    columns: dict[str, list[Any]] = {name: [] for name in column_names or ()}
    for position, (number, row) in enumerate(rows):
        values = _named_values(row, column_names, f"{where}, {unit} {number}")
        for name in [name for name in values if name not in columns]:
            columns[name] = [None] * position
        for name, column in columns.items():
            column.append(values.get(name))
    return columns


def _named_values(row: Any, column_names: Sequence[str] | None, place: str) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if isinstance(row, list) and column_names is not None:
        if len(row) != len(column_names):
            raise DataError(f"{len(row)} values where `data.column_names` has {len(column_names)}", where=place)
        return dict(zip(column_names, row, strict=True))
    if isinstance(row, list):
        raise DataError("a row is a list without names", where=place, hint="Name its values with `data.column_names`.")
    kind = "null" if row is None else type(row).__name__
    raise DataError(f"a row must be an object, not {kind}", where=place, hint=_SHAPES)
