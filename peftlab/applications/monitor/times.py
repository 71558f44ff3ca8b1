"""Times of texts, as they come: ISO 8601, seconds or milliseconds since 1970, or as in a mail's header."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from peftlab.core.errors import DataError

HOUR = 3600
CLOCKS_APART = 300.0
"""Seconds by which the clocks of others may be ahead."""
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
_MILLISECONDS = 1e11
"""From here on a number counts milliseconds: as seconds it would lie in the year 5138."""


def read_time(given: object, *, now: float, where: str = "time") -> float:
    """Seconds since 1970. A time without a zone is UTC.

    Args:
        given: A text or number.
        now: Seconds since 1970.
        where: For messages.

    Raises:
        DataError: It cannot be read, or lies in the future, or before 1990.
    """
    moment = _parse(given)
    if moment is None or not math.isfinite(moment):
        raise DataError(
            f"this time cannot be read: {str(given)[:60]!r}",
            where=where,
            hint="As in 2026-05-31T14:05:00+02:00, or seconds since 1970.",
        )
    if moment > now + CLOCKS_APART:
        raise DataError(f"this time lies in the future: {str(given)[:60]!r}", where=where, hint="Is its zone right?")
    if moment < EARLIEST:
        raise DataError(f"this time lies before 1990: {str(given)[:60]!r}", where=where)
    return moment


def _parse(given: object) -> float | None:
    if isinstance(given, bool) or given is None:
        return None
    if isinstance(given, datetime):
        return _of(given)
    text = str(given).strip()
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        day = text.removesuffix(".0")  # a column of days in which one is missing holds such numbers
        if len(day) != 8 or not day.isdigit():  # else it is as in 20260531
            return number / 1000 if number > _MILLISECONDS else number
        text = day
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return _of(parse(text))
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _of(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def hour_of(moment: float) -> int:
    """Hours since 1970."""
    return int(moment // HOUR)


def hour_of_week(hour: int) -> int:
    """From Monday, 0:00 UTC; 1970 began on a Thursday."""
    return (hour + 3 * 24) % (7 * 24)


def shown_hour(hour: int) -> str:
    """As in 2026-05-31 14:00."""
    return datetime.fromtimestamp(hour * HOUR, UTC).strftime("%Y-%m-%d %H:%M")
