"""Times as tables and senders write them: ISO 8601, numbers since 1970, days, or as in the header of a mail."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

MILLISECONDS = 1e11
"""From here on a number counts milliseconds: as seconds it would lie in the year 5138."""


def moment_of(value: Any) -> float | None:
    """Seconds since 1970; None where the time cannot be read. A time without a zone is UTC.

    Args:
        value: A text, number, date or datetime. Eight digits that are a day, as in 20260531, are that day.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, datetime):
        return _seconds(value)
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return _parsed(text)
    day = text.removesuffix(".0")  # a column of days in which one is missing holds such numbers
    if len(day) == 8 and day.isdigit() and (found := _parsed(day)) is not None:
        return found
    if not math.isfinite(number):
        return None
    return number / 1000 if number > MILLISECONDS else number


def _parsed(text: str) -> float | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return _seconds(parse(text))
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
