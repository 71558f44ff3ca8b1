"""What a monitor keeps: texts with what was read in them, judged hours, alarms, and what is still to be sent.

A text is inserted once: its name is unique, and a second try with the same name changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, func, select, update
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.reader import Reading
from peftlab.applications.monitor.rows import (
    VoicesKey,
    add_to_mark,
    add_voices,
    begin_counts,
    insert_new,
    inserted,
    mark,
    storable,
    voices_of,
)
from peftlab.applications.monitor.tables import ALARMS, OUTBOX, REFUSED, TABLES, TEXTS, VERSION
from peftlab.applications.monitor.times import hour_of
from peftlab.assembly.database import Database

KEPT_FROM = "kept_from"
"""The mark of the first hour of which no text was deleted yet."""


@dataclass(frozen=True)
class Post:
    """A text that came in.

    Args:
        name: The same whenever this text is given again.
        text: Not empty.
        time: Seconds since 1970.
        stream: Of whom it speaks.
    """

    name: str
    text: str
    time: float
    stream: str


class Store:
    """The database of a monitor.

    Args:
        url: SQLAlchemy's address.

    Raises:
        UserError: It cannot be opened, or is another application's or version's.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, TABLES, owner="monitor", version=VERSION)
        with self.transaction() as connection:
            begin_counts(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All or nothing.

        Raises:
            StorageError: The database refused, such as on a full disk.
        """
        with self._database.transaction() as connection:
            yield connection

    def add(self, posts: Sequence[Post], readings: Sequence[Reading | None]) -> int:
        """Keep texts that are not there yet. One that is as old as those that were deleted already counts as known.

        Returns:
            How many were new.
        """
        rows = [
            {
                "name": storable(post.name), "stream": storable(post.stream), "time": post.time,
                "hour": hour_of(post.time), "text": storable(post.text), "stored": time.time(), **_columns(reading),
            }
            for post, reading in zip(posts, readings, strict=True)
        ]  # fmt: skip
        by_name: dict[str, dict[str, Any]] = {}
        for row in rows:
            by_name.setdefault(row["name"], row)
        with self.transaction() as connection:
            kept_from = mark(connection, KEPT_FROM)
            if kept_from is not None:
                rows = [row for row in rows if row["hour"] >= kept_from]
            new = inserted(connection, rows, TEXTS.c.name)
            add_voices(connection, voices_of([by_name[name] for name in new]))
            add_to_mark(connection, "texts", len(new))
        return len(new)

    def known(self, posts: Sequence[Post]) -> set[str]:
        """The names of those that are there, or are as old as what was deleted already."""
        given = {storable(post.name): post.name for post in posts}
        with self.transaction() as connection:
            found = connection.scalars(select(TEXTS.c.name).where(TEXTS.c.name.in_(list(given))))
            there = {given[name] for name in found}
            kept_from = mark(connection, KEPT_FROM)
        return there | {post.name for post in posts if kept_from is not None and hour_of(post.time) < kept_from}

    def refuse(self, name: str, reason: str, given: str) -> None:
        """Keep what could not be taken, so that it is not lost."""
        row = {
            "name": storable(name[:200]),
            "reason": storable(reason),
            "given": storable(given[:20_000]),
            "stored": time.time(),
        }
        with self.transaction() as connection:
            add_to_mark(connection, "refused", insert_new(connection, REFUSED, [row]))

    def waiting(self, most: int) -> list[tuple[int, str]]:
        """Texts that nothing was read in yet, the oldest first."""
        query = select(TEXTS.c.id, TEXTS.c.text).where(TEXTS.c.sentiment.is_(None)).order_by(TEXTS.c.id).limit(most)
        with self.transaction() as connection:
            return [(row.id, row.text) for row in connection.execute(query)]

    def keep_readings(self, ids: Sequence[int], readings: Sequence[Reading]) -> None:
        """Write down what was read in waiting texts; what another process has written down meanwhile stays."""
        if not ids:
            return
        found: Counter[VoicesKey] = Counter()
        with self.transaction() as connection:
            for at, reading in sorted(zip(ids, readings, strict=True), key=lambda pair: pair[0]):
                query = update(TEXTS).where(TEXTS.c.id == at, TEXTS.c.sentiment.is_(None)).values(**_columns(reading))
                row = connection.execute(query.returning(TEXTS.c.stream, TEXTS.c.hour)).first()
                if row is not None:
                    found[row.stream, row.hour, reading.sentiment, reading.topic] += 1
            add_voices(connection, found)

    def counts(self) -> dict[str, int]:
        """How many there are of what, for ``/metrics``."""
        with self.transaction() as connection:
            known = {name: int(mark(connection, name) or 0) for name in ("texts", "copies", "refused")}
            return {
                "texts": known["texts"],
                "texts_waiting": _count(connection, TEXTS, TEXTS.c.sentiment.is_(None)),
                "copies": known["copies"],
                "refused": known["refused"],
                "alarms": _count(connection, ALARMS),
                "messages_waiting": _count(connection, OUTBOX, OUTBOX.c.sent.is_(None)),
            }


def _count(connection: Connection, table: Table, *where: ColumnElement[bool]) -> int:
    return int(connection.scalar(select(func.count()).select_from(table).where(*where)) or 0)


def _columns(reading: Reading | None) -> dict[str, Any]:
    if reading is None:
        return {"sentiment": None, "sentiment_score": None, "topic": None, "topic_score": None}
    return {
        "sentiment": reading.sentiment,
        "sentiment_score": reading.sentiment_score,
        "topic": reading.topic,
        "topic_score": reading.topic_score,
    }
