"""Times of texts, which lie neither in the future nor before there was a web, and their hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from peftlab.core.errors import DataError
from peftlab.core.times import moment_of

HOUR = 3600
CLOCKS_APART = 300.0
"""Seconds by which the clocks of others may be ahead."""
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC).timestamp()


def read_time(given: object, *, now: float, where: str = "time") -> float:
    """Seconds since 1970. A time without a zone is UTC.

    Args:
        given: A text or number.
        now: Seconds since 1970.
        where: For messages.

    Raises:
        DataError: It cannot be read, or lies in the future, or before 1990.
    """
    moment = moment_of(given)
    if moment is None:
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


def hour_of(moment: float) -> int:
    """Hours since 1970."""
    return int(moment // HOUR)


def hour_of_week(hour: int) -> int:
    """From Monday, 0:00, of the zone whose hours they are; 1970 began on a Thursday."""
    return (hour + 3 * 24) % (7 * 24)


def zone_of(name: str) -> tzinfo:
    """A zone by its name, such as Europe/Berlin.

    Raises:
        ValueError: There is none.
    """
    if name == "UTC":  # which needs no database of zones
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"there is no zone {name!r}: as in Europe/Berlin. A machine that knows no zones needs: pip install tzdata"
        ) from error


def clock_hour(hour: int, zone: tzinfo) -> int:
    """Hours since 1970 as clocks of a zone count them; these jump twice a year."""
    ahead = datetime.fromtimestamp(hour * HOUR, zone).utcoffset() or timedelta()
    return hour + ahead // timedelta(hours=1)


def shown_hour(hour: int) -> str:
    """As in 2026-05-31 14:00."""
    return datetime.fromtimestamp(hour * HOUR, UTC).strftime("%Y-%m-%d %H:%M")
