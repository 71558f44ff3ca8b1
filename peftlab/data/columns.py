"""What must hold of the columns that a task uses, before anything is split."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from peftlab.core.errors import DataError, did_you_mean
from peftlab.core.splits import Split
from peftlab.data.delimited import NAMELESS
from peftlab.data.nested import nested_column
from peftlab.data.table import Table
from peftlab.data.text_files import TextRows

_MISSING = "is missing or empty"
_HALF = "holds half of a character (a lone surrogate)"
_NULL_HINT = "Set `data.drop_missing: true` to leave such rows out."


def split_of_table(
    name: str, table: Table, columns: Sequence[str], *, optional: Sequence[str] = (), is_later_part: bool = False
) -> Split:
    """A whole table as a split, with the columns that are needed; optional ones that are not there are all None.

    Args:
        name: Of the split.
        table: The table.
        columns: Those that are needed.
        optional: Those of them that may be missing.
        is_later_part: Whether the rows are some of a table whose first ones have been read: they may lack fields
            within fields that others have.

    Raises:
        DataError: A column is not there.
    """
    values: dict[str, Sequence[Any]] = {}
    for column in columns:
        found = table.columns.get(column)
        if found is None:
            found = nested_column(table.columns, column, table.name, is_later_part=is_later_part)
        if found is None and column not in optional:
            raise DataError(f"there is no column `{column}`", where=table.name, hint=_hint_for_column(column, table))
        values[column] = [None] * len(table) if found is None else found
    return Split(name, range(len(table)), values, table.name)


def _hint_for_column(column: str, table: Table) -> str | None:
    if len(table.names) == 1 and re.search(r"[^\w .-]", table.names[0]):
        return f"The header is one field, {table.names[0]!r}: set `data.delimiter` to what separates them."
    if column.removeprefix(NAMELESS).isdecimal():
        return f"The first row is read as names: {', '.join(table.names[:8])}. If it is none, set `data.header: false`."
    hint = did_you_mean(column, table.names)
    if any(len(name) > 40 or name.replace(".", "").isdecimal() for name in table.names):
        hint = f"{hint} If the file has no header, set `data.header: false`: its columns are {NAMELESS}1 and so on."
    return hint


def take(split: Split, positions: Sequence[int], *, name: str | None = None) -> Split:
    """The rows at some positions, in that order."""
    columns = {
        column: values.take(positions) if isinstance(values, TextRows) else [values[at] for at in positions]
        for column, values in split.columns.items()
    }
    index = [split.index[at] for at in positions]
    return replace(split, name=name or split.name, index=index, columns=columns, notes={})


def drop_missing_rows(split: Split, *, optional: Sequence[str] = ()) -> Split:
    """Leave out the rows in which any column is missing, or holds nothing but blanks, that is not optional."""
    needed = [values for column, values in split.columns.items() if column not in optional]
    complete = [at for at, row in enumerate(zip(*needed, strict=True)) if not any(map(is_missing, row))]
    return split if len(complete) == len(split) else take(split, complete)


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing, or blanks alone."""
    return value is None or (isinstance(value, str) and not value.strip())


def check_columns(split: Split, text_columns: Sequence[str], label_columns: Sequence[str]) -> None:
    """Check that texts are texts, that no label is missing, and that all is made of whole characters.

    Raises:
        DataError: Naming the first row, and how many there are.
    """
    for column in text_columns:
        values = split.columns[column]
        _refuse(split, column, lambda value: value is None, _MISSING, _NULL_HINT)
        _refuse(split, column, lambda value: not _is_text(value), "is no text", "Choose another column for the text.")
        _refuse(split, column, _has_half_character, _HALF, "Mend these rows.")
        if split.name == "train" and len(values) and all(_is_number(value) for value in values):
            raise DataError(
                f"the column `{column}` holds numbers only, the first is {values[0]!r}; it cannot be the text",
                where=split.where(0),
                hint="Choose another column for the text.",
            )
    for column in label_columns:
        refuse_all_missing(split, column)
        _refuse(split, column, lambda value: value is None, _MISSING, _NULL_HINT)
    for column in split.columns:  # turns of a chat and responses too, which are no plain texts
        if column not in text_columns:
            _refuse(split, column, _has_half_character, _HALF, "Mend these rows.")


def refuse_all_missing(split: Split, column: str) -> None:
    """Refuse a split whose column holds nothing at all.

    Raises:
        DataError: Naming the column.
    """
    values = split.columns[column]
    if len(values) and all(value is None for value in values):
        raise DataError(
            f"the column `{column}` is missing in every row{split.of_it}",
            where=split.source,
            hint="The Hub hides the labels of some test splits: `data.splits: {train: train, test: validation}`.",
        )


def _refuse(split: Split, column: str, wrong: Callable[[Any], bool], what: str, hint: str) -> None:
    found = [at for at, value in enumerate(split.columns[column]) if wrong(value)]
    if not found:
        return
    value = split.columns[column][found[0]]
    shown = "" if value is None else f": {repr(value)[:60]}"
    others = f" (and in {len(found) - 1:,} more rows)" if len(found) > 1 else ""
    raise DataError(f"the column `{column}` {what}{shown}{others}", where=split.where(found[0]), hint=hint)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(token, str) for token in value))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _has_half_character(value: Any) -> bool:
    # JSON can write half of a surrogate pair; no tokenizer takes it, and no file can hold it.
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(map(_has_half_character, (*value, *value.values())))
    return isinstance(value, list) and any(map(_has_half_character, value))
