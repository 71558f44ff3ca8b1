"""How long a monitor keeps what it was given, and texts that it has to forget before that.

A text goes once it is old enough, and not before it was read, its hour judged, and no text of that hour can come late.
The texts behind an alarm stay as long as it goes on, and until its messages are sent. What is gone is not counted anew
when it is sent again: the hour from which on all texts are there is written down.

Cleaning goes by small steps, each a transaction of its own, so that nobody waits for it. Several processes may clean
one database: each counts what it has deleted itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, Table, delete, exists, func, or_, select, update
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.rows import add_to_mark, mark, raise_mark, storable
from peftlab.applications.monitor.settings import Retention
from peftlab.applications.monitor.store import KEPT_FROM, Store
from peftlab.applications.monitor.surges import LONGEST_HISTORY, QUIET
from peftlab.applications.monitor.tables import ALARMS, HOURS, OUTBOX, REFUSED, TEXTS, VOICES
from peftlab.applications.monitor.times import HOUR, hour_of
from peftlab.applications.monitor.voices import COPY_HOURS
from peftlab.applications.monitor.watcher import JUDGED, LATE_HOURS

CLEAN_EVERY = 3600.0
"""Seconds between two cleanings."""
AT_ONCE = 500
"""Rows that a transaction deletes."""
DAY_HOURS = 24
UNSENT = exists().where(OUTBOX.c.alarm == ALARMS.c.id, OUTBOX.c.sent.is_(None))
"""Of an alarm: a message is still to be sent."""


class Cleaner:
    """Deletes what is too old.

    Args:
        store: Of the texts.
        retention: How long they are kept.
        clock: Tells the time.
        steady: Tells the seconds that have passed, whatever is done to the clock.
    """

    def __init__(
        self,
        store: Store,
        retention: Retention,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._retention, self._clock, self._steady = store, retention, clock, steady
        self._seen = clock(), steady()
        self._is_cleaning = False

    def tick(self) -> bool:
        """Delete some rows, if it is time to.

        What is deleted does not come back, so a clock that jumps ahead deletes nothing until it has stood so for an
        hour.

        Returns:
            Whether there may be more.

        Raises:
            StorageError: The database refused; it is tried again.
        """
        now, passed = self._clock(), self._steady() - self._seen[1]
        if passed < CLEAN_EVERY and not self._is_cleaning:
            return False
        trusted = min(now, self._seen[0] + passed)
        self._is_cleaning = clean(self._store, self._retention, trusted)
        if not self._is_cleaning:
            self._seen = now, self._steady()
        return self._is_cleaning


def clean(store: Store, retention: Retention, now: float) -> bool:
    """Delete at most ``AT_ONCE`` rows of each table.

    Returns:
        Whether there may be more.
    """
    with store.transaction() as connection:
        judged = mark(connection, JUDGED)
    if judged is None:
        return False
    count = 0
    if retention.texts_days is not None:
        oldest = hour_of(now) - retention.texts_days * DAY_HOURS
        count += _clean_texts(store, min(oldest, int(judged) - LATE_HOURS - COPY_HOURS), int(judged))
        count += _clean_given(store, oldest * HOUR)
    if retention.series_days is not None:
        oldest = hour_of(now) - retention.series_days * DAY_HOURS
        count += _clean_series(store, min(oldest, int(judged) - LONGEST_HISTORY - LATE_HOURS))
    return count > 0


def forget(store: Store, name: str) -> bool:
    """Let nobody read a text any more: nothing is left of it but that there was one, which the series count.

    It is not taken in again. Copies of it that others have sent are texts of their own.

    Args:
        store: Of the texts.
        name: Of the text, or of a row that was refused.

    Returns:
        Whether it is there.
    """
    name = storable(name)
    with store.transaction() as connection:
        refused = connection.execute(delete(REFUSED).where(REFUSED.c.name == name)).rowcount
        number = connection.scalar(update(TEXTS).where(TEXTS.c.name == name).values(text="").returning(TEXTS.c.id))
        add_to_mark(connection, "refused", -refused)
        if number is None:
            return bool(refused)
        sent = select(OUTBOX.c.id, OUTBOX.c.body).where(OUTBOX.c.body.contains(f'"id": {number}, '))
        for row in connection.execute(sent).all():
            message = json.loads(row.body)
            message["texts"] = [each for each in message["texts"] if each["id"] != number]
            connection.execute(update(OUTBOX).where(OUTBOX.c.id == row.id).values(body=json.dumps(message)))
    return True


def _clean_texts(store: Store, before: int, judged: int) -> int:
    behind_alarm = exists().where(
        ALARMS.c.stream == TEXTS.c.stream, TEXTS.c.hour >= ALARMS.c.began - 1, TEXTS.c.hour <= ALARMS.c.last,
        or_(ALARMS.c.last >= judged - QUIET, UNSENT),
    )  # fmt: skip
    old = (TEXTS.c.hour < before, TEXTS.c.sentiment.is_not(None), ~behind_alarm, _is_not_last(TEXTS))
    chosen = select(TEXTS.c.id).where(*old).order_by(TEXTS.c.hour, TEXTS.c.id).limit(AT_ONCE)
    with store.transaction() as connection:
        query = delete(TEXTS).where(TEXTS.c.id.in_(chosen)).returning(TEXTS.c.hour, TEXTS.c.copy_of)
        gone = connection.execute(query).all()
        if gone:
            raise_mark(connection, KEPT_FROM, max(row.hour for row in gone) + 1)
            add_to_mark(connection, "copies", -sum(row.copy_of is not None for row in gone))
            add_to_mark(connection, "texts", -len(gone))
    return len(gone)


def _clean_given(store: Store, before: float) -> int:
    """What else holds texts: refused rows, and messages that were sent."""
    refused = select(REFUSED.c.name).where(REFUSED.c.stored < before).limit(AT_ONCE)
    sent = select(OUTBOX.c.id).where(OUTBOX.c.sent < before, OUTBOX.c.body != "").limit(AT_ONCE)
    with store.transaction() as connection:
        bodies = connection.execute(update(OUTBOX).where(OUTBOX.c.id.in_(sent)).values(body="")).rowcount
        rows = connection.execute(delete(REFUSED).where(REFUSED.c.name.in_(refused))).rowcount
        add_to_mark(connection, "refused", -rows)
    return bodies + rows


def _clean_series(store: Store, before: int) -> int:
    old = select(ALARMS.c.id).where(ALARMS.c.last < before, ~UNSENT, _is_not_last(ALARMS)).limit(AT_ONCE)
    with store.transaction() as connection:
        count = sum(_delete_hours(connection, table, before) for table in (HOURS, VOICES))
        alarms = list(connection.scalars(old))
        connection.execute(delete(OUTBOX).where(OUTBOX.c.alarm.in_(alarms), _is_not_last(OUTBOX)))
        return count + connection.execute(delete(ALARMS).where(ALARMS.c.id.in_(alarms))).rowcount


def _delete_hours(connection: Connection, table: Table, before: int) -> int:
    """Of one day."""
    first = connection.scalar(select(func.min(table.c.hour)))
    if first is None or first >= before:
        return 0
    return connection.execute(delete(table).where(table.c.hour < min(before, first + DAY_HOURS))).rowcount


def _is_not_last(table: Table) -> ColumnElement[bool]:
    """The last row stays: SQLite would give its number to the next one, and who gets messages goes by numbers."""
    return table.c.id < select(func.max(table.alias().c.id)).scalar_subquery()
