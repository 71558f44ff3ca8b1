"""The tables of customer service, and the indexes that keep what the desk asks every few seconds small."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from peftlab.applications.support.turns import Kind

VERSION = 1
METADATA = MetaData()
CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("secret", String(64), nullable=False),
    Column("started", Float, nullable=False),
    Column("waits", Boolean, nullable=False, default=False),
    Column("waits_since", Float),
    Column("summary", Text, nullable=False, default=""),
)
MESSAGES = Table(
    "messages",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("conversation", String(32), ForeignKey("conversations.id"), nullable=False),
    Column("key", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("sent", Float, nullable=False),
    Column("kind", String(16)),
    Column("answers", Integer),
    Column("question", Text),
    Column("entry", String(200)),
    Column("sources", Text, nullable=False, default="[]"),
    Column("confidence", Float),
    Column("seconds", Float),
    Column("helped", Boolean),
    Index("messages_of", "conversation", "id"),
    Index("messages_key", "conversation", "key", unique=True),
)
CORRECTIONS = Table(
    "corrections",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("message", Integer, ForeignKey("messages.id"), nullable=False, unique=True),
    Column("made", Float, nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("entry", String(200)),
    Column("was_wrong", Boolean, nullable=False),
)


def _index_where(name: str, condition: ColumnElement[bool], column: Column[float] | Column[int]) -> None:
    """An index of the few rows for which something holds."""
    Index(name, column, sqlite_where=condition, postgresql_where=condition)


GIVEN_ALONE = MESSAGES.c.kind.in_([str(Kind.ENTRY), str(Kind.WRITTEN)])
"""Of a message: it is an answer that was given without a person."""
WAITS = CONVERSATIONS.c.waits.is_(True)
DID_NOT_HELP = MESSAGES.c.helped.is_(False)
WAS_WRONG = CORRECTIONS.c.was_wrong.is_(True)
"""Asked for in these words, which an index of a part of the rows is chosen by."""
_index_where("conversations_waiting", WAITS, CONVERSATIONS.c.waits_since)
_index_where("messages_unhelpful", DID_NOT_HELP, MESSAGES.c.id)
_index_where("corrections_wrong", WAS_WRONG, CORRECTIONS.c.id)
