"""The number in a row of a column of targets, scores or the like."""

from __future__ import annotations

import math

from peftlab.core.errors import DataError
from peftlab.core.splits import Split


def number_in(split: Split, row: int, column: str, what: str, *, may_be_negative: bool = True) -> float:
    """The number in a row.

    Args:
        split: With the column.
        row: Of the split.
        column: Its name.
        what: The number is, for the error.
        may_be_negative: Whether it may be below 0.

    Raises:
        DataError: There is none, or it is not finite or negative.
    """
    value = split.columns[column][row]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (number < 0 and not may_be_negative):
        wanted = "a finite number" if may_be_negative else "a number of 0 or more"
        raise DataError(
            f"the {what} {value!r:.40} in column `{column}` is not {wanted}",
            where=split.where(row),
            hint="Write it in digits alone, such as 1234.5." if isinstance(value, str) else None,
        )
    return number
