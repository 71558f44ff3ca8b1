"""Columns of numbers as people write them: ``3,14``, ``1.234,5``, ``1,234.5``.

One number does not always tell how it is written (``1,234``); a column mostly does. Where it does not, it is refused:
a wrong guess is wrong by a factor of a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from peftlab.core.errors import DataError

Decimal = Literal[".", ","]

HINT = 'Set `data.decimal: ","` or `data.decimal: "."`.'
_SIGN, _GROUP_MARKS = r"[+\-−]?", r".'’ \u00a0\u2009\u202f"
_COMMA = re.compile(rf"{_SIGN}(?:\d+|\d{{1,3}}(?:[{_GROUP_MARKS}]\d{{3}})+)?,\d+(?:[eE]{_SIGN}\d+)?")
_POINT = re.compile(rf"{_SIGN}\d{{1,3}}(?:,\d{{3}})+\.\d+")
_GROUPS = re.compile(rf"{_SIGN}[1-9]\d{{0,2}}(?:,\d{{3}})+")
_PLAIN_POINT = re.compile(rf"{_SIGN}\d*\.\d+(?:[eE]{_SIGN}\d+)?")


class DecimalWatch:
    """What stands before the decimals in a column of numbers, which may come in parts.

    Args:
        column: Its name, for messages.
        where: The table's name, for messages.
        said: What the user has said; nothing is looked at then.
        is_one_table: Whether the values are a table's in their order, so that errors can name the row.
    """

    def __init__(self, column: str, where: str, said: Decimal | None = None, *, is_one_table: bool = False) -> None:
        self._column, self._where, self._said, self._is_one_table = column, where, said, is_one_table
        self._rows = 0
        self._comma: str | None = None
        self._point: str | None = None
        self._has_thousands = False
        """Whether a number with both marks told that commas part thousands."""

    def read(self, values: Sequence[Any]) -> Decimal | None:
        """Look at the next values. What is no text, or no number, says nothing.

        Returns:
            None where no value so far holds a comma.

        Raises:
            DataError: Both kinds are there, or a value could be of either.
        """
        if self._said is not None:
            return self._said
        either: str | None = None
        for row, value in enumerate(values, start=self._rows + 1):
            text = value.strip() if isinstance(value, str) else ""
            if _GROUPS.fullmatch(text):
                either = either or text
            elif _COMMA.fullmatch(text):
                self._comma = self._comma or text
            elif _POINT.fullmatch(text) or _PLAIN_POINT.fullmatch(text):
                self._point = self._point or text
                self._has_thousands = self._has_thousands or "," in text
            if self._comma and self._point:
                raise self._mixed(row)
        self._rows += len(values)
        if self._comma:
            return ","
        if either is not None and self._point is None:
            raise self._unclear(either)
        self._has_thousands = self._has_thousands or either is not None
        return "." if self._has_thousands else None

    def _mixed(self, row: int) -> DataError:
        return DataError(
            f"the column `{self._column}` has commas and points before decimals: {self._comma} and {self._point}",
            where=f"{self._where}, row {row}" if self._is_one_table else self._where,
            hint=f"Write all numbers in one way. If one of the two separates thousands: {HINT}",
        )

    def _unclear(self, text: str) -> DataError:
        return DataError(
            f"the column `{self._column}` does not tell whether {text} is {text.replace(',', '.')} or "
            f"{text.replace(',', '')}",
            where=self._where,
            hint=HINT,
        )


def plain_numbers(values: Sequence[Any], decimal: Decimal | None) -> list[Any]:
    """The values of a column with every number in it written as Python reads it; all else stays as it is."""
    return list(values) if decimal is None else [_plain(value, decimal) for value in values]


def _plain(value: Any, decimal: Decimal) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if decimal == "," and (_COMMA.fullmatch(text) or re.fullmatch(rf"{_SIGN}\d{{1,3}}(?:\.\d{{3}})+", text)):
        return re.sub(rf"[{_GROUP_MARKS}]", "", text).replace(",", ".").replace("−", "-")
    if decimal == "." and (_POINT.fullmatch(text) or _GROUPS.fullmatch(text)):
        return text.replace(",", "").replace("−", "-")
    return value
