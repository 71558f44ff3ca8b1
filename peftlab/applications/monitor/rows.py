"""How rows get into the tables, on SQLite and PostgreSQL alike: once, and with what is counted of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Table, case, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.tables import HOURS, MARKS, VOICES

VoicesKey = tuple[str, int, str, str]
"""Stream, hour, sentiment and topic."""
AT_ONCE = 50
"""Rows of a statement: SQLite takes so many values, and no more."""
COUNTED = ("texts", "copies", "refused")
"""What marks count as it comes in."""


def storable(text: str) -> str:
    """A text as every database takes it: NUL is no character of PostgreSQL's, and half a pair of UTF-16 is none."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows, leaving out those whose key is taken.

    Returns:
        How many went in.
    """
    return len(inserted(connection, rows, next(iter(table.primary_key.columns))))


def inserted(connection: Connection, rows: Sequence[Mapping[str, Any]], column: Column[Any]) -> list[Any]:
    """The same; the column's values of those that went in."""
    found: list[Any] = []
    for start in range(0, len(rows), AT_ONCE):
        statement = _insert(connection, column.table).values(list(rows[start : start + AT_ONCE]))
        found += connection.scalars(statement.on_conflict_do_nothing().returning(column)).all()
    return found


def mark(connection: Connection, name: str, *, hold: bool = False) -> float | None:
    """A number that was written down, such as up to which hour all is judged.

    Args:
        connection: In a transaction.
        name: Of the number.
        hold: Let no other process read it so until the transaction ends.
    """
    if hold:
        # A change that changes nothing. SQLite has no rows to hold, and would begin to write only later.
        connection.execute(update(MARKS).where(MARKS.c.name == name).values(value=MARKS.c.value))
    found = connection.scalar(select(MARKS.c.value).where(MARKS.c.name == name))
    return None if found is None else float(found)


def set_mark(connection: Connection, name: str, value: float) -> None:
    """Write a number down."""
    insert_new(connection, MARKS, [{"name": name, "value": value}])
    connection.execute(update(MARKS).where(MARKS.c.name == name).values(value=value))


def raise_mark(connection: Connection, name: str, value: float) -> None:
    """Write a number down that never falls."""
    insert_new(connection, MARKS, [{"name": name, "value": value}])
    connection.execute(update(MARKS).where(MARKS.c.name == name, MARKS.c.value < value).values(value=value))


def add_to_mark(connection: Connection, name: str, number: int) -> None:
    """Add to a number; the last thing in a transaction, since others wait for it."""
    if number:
        connection.execute(update(MARKS).where(MARKS.c.name == name).values(value=MARKS.c.value + number))


def add_voices(connection: Connection, voices: Mapping[VoicesKey, int]) -> None:
    """Add to the voices by hour; in one order, so that two processes never wait for each other."""
    names = ("stream", "hour", "sentiment", "topic")
    rows = [{**dict(zip(names, key, strict=True)), "voices": count} for key, count in sorted(voices.items()) if count]
    for start in range(0, len(rows), AT_ONCE):
        statement = _insert(connection, VOICES).values(rows[start : start + AT_ONCE])
        more = {"voices": VOICES.c.voices + statement.excluded.voices}
        connection.execute(statement.on_conflict_do_update(index_elements=names, set_=more))


def keep_hours(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write judged hours down; of one that is there already the greater count stays."""
    for start in range(0, len(rows), AT_ONCE):
        statement = _insert(connection, HOURS).values(list(rows[start : start + AT_ONCE]))
        given = statement.excluded.voices
        greater = {"voices": case((given > HOURS.c.voices, given), else_=HOURS.c.voices)}
        connection.execute(statement.on_conflict_do_update(index_elements=("stream", "topic", "hour"), set_=greater))


def voices_of(rows: Sequence[Mapping[str, Any]]) -> Counter[VoicesKey]:
    """Voices of texts that were read; those that were not are left out."""
    return Counter(
        (row["stream"], row["hour"], row["sentiment"], row["topic"]) for row in rows if row["sentiment"] is not None
    )


def begin_counts(connection: Connection) -> None:
    """Count from 0 in a new database; ``add_to_mark`` adds to what is there."""
    insert_new(connection, MARKS, [{"name": name, "value": 0.0} for name in COUNTED])


def _insert(connection: Connection, table: Any) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
