"""The tables of a monitor, and the indexes that keep what is asked every few seconds small.

A page and the worker behind it ask every few seconds. What they read must not grow with what is stored, so each of
their questions has an index, and what would be counted anew is written down as it changes: voices by hour, and the
number of texts, copies and refused rows.
"""

from __future__ import annotations

from typing import Any

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
    and_,
    literal_column,
)

VERSION = 1
NUMBER = BigInteger().with_variant(Integer, "sqlite")
TABLES = MetaData()
UNSURE = 0.5
"""A topic less probable than this may be another one."""

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
    Index("texts_by_time", "time", "id"),
    Index("texts_of_stream", "stream", "time", "id"),
    Index("texts_of_topic", "topic", "time", "id"),
    Index("texts_of_sentiment", "sentiment", "time", "id"),
)
ALL_TOPICS = "*"
"""The topic of hours in which all texts are counted."""
HOURS = Table(
    "hours",
    TABLES,
    Column("stream", String(200), primary_key=True),
    Column("topic", String(200), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("voices", Integer, nullable=False),
    Index("hours_of_stream", "stream", "hour"),
    Index("hours_by_hour", "hour"),
)
"""Hours as they were judged, with the texts that came late and were judged after all."""
VOICES = Table(
    "voices",
    TABLES,
    Column("stream", String(200), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("sentiment", String(100), primary_key=True),
    Column("topic", String(200), primary_key=True),
    Column("voices", Integer, nullable=False),
    Index("voices_by_hour", "hour", "sentiment"),
)
"""Texts by hour as they were read, without those that were found to be copies; those that came late are among them."""
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
    Index("alarms_by_hour", "began", "id"),
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
    Index("refused_by_time", "stored"),
)
MARKS = Table(
    "marks", TABLES, Column("name", String(60), primary_key=True), Column("value", Float, nullable=False)
)  # fmt: skip


def _index_where(name: str, condition: ColumnElement[bool], *columns: Column[Any]) -> None:
    """An index of the few rows for which something holds."""
    Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


_index_where("texts_to_read", TEXTS.c.sentiment.is_(None), TEXTS.c.id)
_index_where("texts_to_read_by_hour", TEXTS.c.sentiment.is_(None), TEXTS.c.hour)
_index_where("texts_copies", TEXTS.c.copy_of.is_not(None), TEXTS.c.copy_of)
IS_UNSURE = and_(TEXTS.c.topic_score < literal_column(str(UNSURE)), TEXTS.c.copy_of.is_(None))
"""A text that is no copy and whose topic is unsure. By a literal: SQLite takes no index for a parameter."""
_index_where(
    "texts_unsure",
    IS_UNSURE,
    *(TEXTS.c[name] for name in ("stream", "sentiment", "time", "id")),
)
_index_where("outbox_to_send", OUTBOX.c.sent.is_(None), OUTBOX.c.due, OUTBOX.c.id)
