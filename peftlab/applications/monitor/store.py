"""What a monitor keeps: texts with what was read in them, judged hours, alarms, and what is still to be sent.

A text is inserted once: its name is unique, and a second try with the same name changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.reader import Reading
from peftlab.applications.monitor.times import hour_of
from peftlab.assembly.database import Database

VERSION = 1
NUMBER = BigInteger().with_variant(Integer, "sqlite")
TABLES = MetaData()

TEXTS = Table(
    "texts",
    TABLES,
    Column("id", NUMBER, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("stream", String(200), nullable=False),
    Column("time", Float, nullable=False),
    Column("hour", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("stored", Float, nullable=False),
    Column("sentiment", String(100)),
    Column("sentiment_score", Float),
    Column("topic", String(200)),
    Column("topic_score", Float),
    Column("copy_of", NUMBER),
    Index("texts_by_hour", "hour", "stream"),
    Index("texts_waiting", "sentiment"),
)
HOURS = Table(
    "hours",
    TABLES,
    Column("stream", String(200), primary_key=True),
    Column("topic", String(200), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("voices", Integer, nullable=False),
)
ALARMS = Table(
    "alarms",
    TABLES,
    Column("id", NUMBER, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("stream", String(200), nullable=False),
    Column("topic", String(200), nullable=False),
    Column("began", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("voices", Integer, nullable=False),
    Column("expected", Float, nullable=False),
    Column("score", Float, nullable=False),
    Column("is_seen", Boolean, nullable=False, default=False),
    UniqueConstraint("kind", "stream", "topic", "began"),
)
OUTBOX = Table(
    "outbox",
    TABLES,
    Column("id", NUMBER, primary_key=True),
    Column("alarm", NUMBER, nullable=False),
    Column("channel", String(20), nullable=False),
    Column("body", Text, nullable=False),
    Column("due", Float, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("sent", Float),
    Column("error", Text),
    UniqueConstraint("alarm", "channel"),
)
REFUSED = Table(
    "refused",
    TABLES,
    Column("name", String(200), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("given", Text, nullable=False),
    Column("stored", Float, nullable=False),
)
MARKS = Table(
    "marks", TABLES, Column("name", String(60), primary_key=True), Column("value", Float, nullable=False)
)  # fmt: skip


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

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All or nothing.

        Raises:
            StorageError: The database refused, such as on a full disk.
        """
        with self._database.transaction() as connection:
            yield connection

    def add(self, posts: Sequence[Post], readings: Sequence[Reading | None]) -> int:
        """Keep texts that are not there yet.

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
        with self.transaction() as connection:
            return insert_new(connection, TEXTS, rows)

    def known(self, names: Iterable[str]) -> set[str]:
        """Which of these texts are there."""
        given = {storable(name): name for name in names}
        with self.transaction() as connection:
            found = connection.scalars(select(TEXTS.c.name).where(TEXTS.c.name.in_(list(given))))
            return {given[name] for name in found}

    def refuse(self, name: str, reason: str, given: str) -> None:
        """Keep what could not be taken, so that it is not lost."""
        row = {
            "name": storable(name[:200]),
            "reason": storable(reason),
            "given": storable(given[:20_000]),
            "stored": time.time(),
        }
        with self.transaction() as connection:
            insert_new(connection, REFUSED, [row])

    def waiting(self, most: int) -> list[tuple[int, str]]:
        """Texts that nothing was read in yet, the oldest first."""
        query = select(TEXTS.c.id, TEXTS.c.text).where(TEXTS.c.sentiment.is_(None)).order_by(TEXTS.c.id).limit(most)
        with self.transaction() as connection:
            return [(row.id, row.text) for row in connection.execute(query)]

    def keep_readings(self, ids: Sequence[int], readings: Sequence[Reading]) -> None:
        """Write down what was read in waiting texts."""
        if not ids:
            return
        rows = [{"at": at, **_columns(reading)} for at, reading in zip(ids, readings, strict=True)]
        with self.transaction() as connection:
            connection.execute(TEXTS.update().where(TEXTS.c.id == bindparam("at")), rows)

    def counts(self) -> dict[str, int]:
        """How many there are of what, for ``/metrics``."""
        with self.transaction() as connection:
            return {
                "texts": _count(connection, TEXTS),
                "texts_waiting": _count(connection, TEXTS, TEXTS.c.sentiment.is_(None)),
                "copies": _count(connection, TEXTS, TEXTS.c.copy_of.is_not(None)),
                "refused": _count(connection, REFUSED),
                "alarms": _count(connection, ALARMS),
                "messages_waiting": _count(connection, OUTBOX, OUTBOX.c.sent.is_(None)),
            }


def storable(text: str) -> str:
    """A text as every database takes it: NUL is no character of PostgreSQL's, and half a pair of UTF-16 is none."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows, leaving out those whose key is taken.

    Returns:
        How many went in.
    """
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).on_conflict_do_nothing()
    first = next(iter(table.primary_key.columns))
    taken = 0
    for start in range(0, len(rows), 50):  # SQLite takes so many values in a statement, and no more
        part = statement.values(list(rows[start : start + 50])).returning(first)
        taken += len(connection.execute(part).all())
    return taken


def mark(connection: Connection, name: str, *, hold: bool = False) -> float | None:
    """A number that was written down, such as up to which hour all is judged.

    Args:
        connection: In a transaction.
        name: Of the number.
        hold: Let no other process read it so until the transaction ends; SQLite lets one alone write in any case.
    """
    query = select(MARKS.c.value).where(MARKS.c.name == name)
    found = connection.scalar(query.with_for_update() if hold else query)
    return None if found is None else float(found)


def set_mark(connection: Connection, name: str, value: float) -> None:
    """Write a number down."""
    insert_new(connection, MARKS, [{"name": name, "value": value}])
    connection.execute(sqlalchemy.update(MARKS).where(MARKS.c.name == name).values(value=value))


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
