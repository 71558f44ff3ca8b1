"""Columns of numbers as people write them: ``3,14``, ``1.234,5``, ``1,234.5``.

One number does not always tell how it is written (``1,234``); a column mostly does. Where it does not, it is refused:
a wrong guess is wrong by a factor of a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from peftlab.core.errors import DataError

Decimal = Literal[".", ","]

_SIGN, _GROUP_MARKS = r"[+\-−]?", r".'’ \u00a0\u2009\u202f"
_COMMA = re.compile(rf"{_SIGN}(?:\d+|\d{{1,3}}(?:[{_GROUP_MARKS}]\d{{3}})+)?,\d+(?:[eE]{_SIGN}\d+)?")
_POINT = re.compile(rf"{_SIGN}\d{{1,3}}(?:,\d{{3}})+\.\d+")
_GROUPS = re.compile(rf"{_SIGN}[1-9]\d{{0,2}}(?:,\d{{3}})+")
_PLAIN_POINT = re.compile(rf"{_SIGN}\d*\.\d+(?:[eE]{_SIGN}\d+)?")


def decimal_of(values: Iterable[Any], *, column: str, where: str, known: Decimal | None = None) -> Decimal | None:
    """What stands before the decimals in a column of numbers.

    Args:
        values: Of the column. What is no text, or no number, says nothing.
        column: Its name, for messages.
        where: The table's name, for messages.
        known: What is said, or was found in an earlier part.

    Returns:
        None where no value holds a comma.

    Raises:
        DataError: Both kinds are there, or every value could be of either.
    """
    texts = [text for value in values if isinstance(value, str) and (text := value.strip())]
    if known is not None or not any("," in text for text in texts):
        return known
    either = [text for text in texts if _GROUPS.fullmatch(text)]
    comma = [text for text in texts if _COMMA.fullmatch(text) and not _GROUPS.fullmatch(text)]
    point = [text for text in texts if _POINT.fullmatch(text)]
    plain = [text for text in texts if _PLAIN_POINT.fullmatch(text)]
    hint = 'Set `data.decimal: ","` or `data.decimal: "."`.'
    if comma and (point or plain):
        raise DataError(
            f"the column `{column}` has commas and points before decimals: {comma[0]} and {(point or plain)[0]}",
            where=where,
            hint=f"Write all numbers in one way. If one of the two separates thousands: {hint}",
        )
    if comma or point:
        return "," if comma else "."
    if either and plain:
        return "."
    if either:
        raise DataError(
            f"the column `{column}` does not tell whether {either[0]} is {either[0].replace(',', '.')} or "
            f"{either[0].replace(',', '')}",
            where=where,
            hint=hint,
        )
    return None


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
