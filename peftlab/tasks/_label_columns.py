"""The labels of a row: of one column with one or several, or of a column for each label."""

from __future__ import annotations

from typing import Any

from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.tasks._labels import is_blank, label_key, split_labels, tidy


def labels_of(split: Split, row: int, label: str | list[str], separator: str | None) -> list[Any]:
    """The labels of a row as they are written.

    Args:
        split: The rows.
        row: Which.
        label: The column; or the columns, each with 0 and 1.
        separator: Between several labels of one column; None: it holds one.

    Raises:
        DataError: Naming the row.
    """
    if isinstance(label, list):
        return [name for name in label if _is_on(split, name, row)]
    value = split.columns[label][row]
    if isinstance(value, dict):
        raise DataError(
            f"the column `{label}` holds an object, {value!r:.60}, and no label",
            where=split.where(row),
            hint=f"Name the field that is the label: `task.label: {label}.{next(iter(value), 'name')}`.",
        )
    if separator is None:
        if isinstance(value, list | tuple):
            raise DataError(
                f"the column `{label}` holds a list, {value!r:.60}, and no label",
                where=split.where(row),
                hint="Set `task.multi_label: true`: a text may then have any number of labels.",
            )
        return [value]
    parts = value if isinstance(value, list) else split_labels(str(value), separator)
    return [part for part in parts if part is not None and not is_blank(str(part))]


def _is_on(split: Split, column: str, row: int) -> bool:
    value = label_key(tidy(split.columns[column][row])).lower()
    if value in {"1", "true"}:
        return True
    if value in {"0", "false"}:
        return False
    raise DataError(
        f"the column `{column}` of a multi-label task holds {value!r}; 0 or 1 is needed", where=split.where(row)
    )
