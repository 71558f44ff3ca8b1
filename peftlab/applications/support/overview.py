"""What the desk asks every few seconds: who waits for a person, what was said last, and figures.

None of it grows with what is stored. What is older than a minute does not change any more, but for what customers say
of answers: it is counted once, when it is that old, and has indexes for the rest.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_, func, or_, select
from sqlalchemy.engine import Connection

from peftlab.applications.support.company import AGENT, CUSTOMER
from peftlab.applications.support.tables import CONVERSATIONS, CORRECTIONS, DID_NOT_HELP, MESSAGES, WAITS, WAS_WRONG
from peftlab.applications.support.turns import Kind
from peftlab.assembly.database import Database

ABANDONED_SECONDS = 60.0
"""So long after a message without an answer a person is to answer: the process that had it is gone."""
MOST_QUEUED = 200
TIMED = 1000
"""So many answers, the last ones, are in the median of seconds."""
AT_ONCE, MOST_PARTS = 100, 50
"""The last messages are read in parts: of so many, and so many parts, however much one customer has said."""


class Overview:
    """Looks at all conversations.

    Args:
        database: With the tables of customer service.
    """

    def __init__(self, database: Database) -> None:
        self._database, self._lock = database, threading.Lock()
        self._until = 0
        self._kinds: Counter[str] = Counter()

    def queue(self) -> list[dict[str, Any]]:
        """Conversations that wait for a person, the oldest first; also those whose answer never came."""
        query = select(CONVERSATIONS).where(WAITS).order_by(CONVERSATIONS.c.waits_since).limit(MOST_QUEUED)
        with self._up_to_date() as (connection, _):
            rows = connection.execute(query).all()
        return [{"id": row.id, "summary": row.summary, "since": row.waits_since} for row in rows]

    def waiting(self) -> int:
        """How many conversations wait for a person."""
        with self._up_to_date() as (connection, _):
            return _count(connection, CONVERSATIONS, WAITS)

    def latest(self, count: int) -> list[dict[str, Any]]:
        """The last conversations in which a customer said something, with that: answers are much alike."""
        columns = (MESSAGES.c.id, MESSAGES.c.conversation, MESSAGES.c.text, MESSAGES.c.sent)
        query = select(*columns).filter_by(role=CUSTOMER).order_by(MESSAGES.c.id.desc()).limit(AT_ONCE)
        found: dict[str, Any] = {}
        with self._database.transaction() as connection:
            rows = connection.execute(query).all()
            for _ in range(MOST_PARTS):
                for row in rows:
                    found.setdefault(row.conversation, row)
                if len(found) >= count or len(rows) < AT_ONCE:
                    break
                rows = connection.execute(query.where(MESSAGES.c.id < rows[-1].id)).all()
        return [{"id": row.conversation, "text": row.text, "sent": row.sent} for row in found.values()][:count]

    def figures(self) -> dict[str, float | None]:
        """What the desk shows: counts, shares, and seconds at the median; None where there is nothing to tell of."""
        timed = select(MESSAGES.c.seconds).where(MESSAGES.c.seconds.is_not(None), MESSAGES.c.kind != str(Kind.POLITE))
        with self._up_to_date() as (connection, kinds):
            seconds = connection.scalars(timed.order_by(MESSAGES.c.id.desc()).limit(TIMED)).all()
            wrong = _count(connection, CORRECTIONS, WAS_WRONG)
            unhelpful = _count(connection, MESSAGES, DID_NOT_HELP)
        alone = kinds["entry"] + kinds["written"]
        total = alone + kinds["handed"]
        ordered = sorted(seconds)
        return {
            "questions": total,
            "by_entry": kinds["entry"],
            "by_written_text": kinds["written"],
            "handed_over": kinds["handed"],
            "share_answered": alone / total if total else None,
            "corrected_as_wrong": wrong,
            "did_not_help": unhelpful,
            "share_wrong": wrong / alone if alone else None,
            "median_seconds": float(ordered[len(ordered) // 2]) if ordered else None,
        }

    @contextmanager
    def _up_to_date(self) -> Iterator[tuple[Connection, Counter[str]]]:
        """A connection, once messages that nobody answers are in the queue; and how many answers of each kind are."""
        old = _long_ago()
        fresh = select(MESSAGES.c.id).where(MESSAGES.c.id > self._until, MESSAGES.c.sent >= old)
        with self._lock:
            with self._database.transaction() as connection:
                _queue_abandoned(connection, self._until, old)
                first = connection.scalar(fresh.order_by(MESSAGES.c.id).limit(1))
                last = connection.scalar(select(func.max(MESSAGES.c.id)).where(MESSAGES.c.id > self._until))
                until = first - 1 if first is not None else int(last or self._until)
                settled = self._kinds + _kinds(connection, and_(MESSAGES.c.id > self._until, MESSAGES.c.id <= until))
                yield connection, settled + _kinds(connection, MESSAGES.c.id > until)
            self._until, self._kinds = until, settled


def put_into_queue(connection: Connection, conversation: str, summary: str) -> None:
    """Let a conversation wait for a person: one that waits already keeps its place."""
    connection.execute(
        CONVERSATIONS.update()
        .where(CONVERSATIONS.c.id == conversation)
        .values(waits=True, waits_since=func.coalesce(CONVERSATIONS.c.waits_since, time.time()), summary=summary)
    )


def take_back(connection: Connection, conversation: str, message: int) -> None:
    """Let a conversation wait no longer for the sake of a message whose answer has come after all."""
    text = connection.scalar(select(MESSAGES.c.text).where(MESSAGES.c.id == message))
    others = select(MESSAGES.c.id).where(MESSAGES.c.conversation == conversation, _is_abandoned(_long_ago()))
    connection.execute(
        CONVERSATIONS.update()
        .where(CONVERSATIONS.c.id == conversation, WAITS, CONVERSATIONS.c.summary == _left_alone(str(text)))
        .where(~others.exists())
        .values(waits=False, waits_since=None, summary="")
    )


def _queue_abandoned(connection: Connection, until: int, old: float) -> None:
    rows = connection.execute(
        select(MESSAGES.c.conversation, MESSAGES.c.text)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == MESSAGES.c.conversation)
        .where(MESSAGES.c.id > until, CONVERSATIONS.c.waits.is_(False), _is_abandoned(old))
        .order_by(MESSAGES.c.id)
    ).all()
    for row in rows:
        put_into_queue(connection, row.conversation, _left_alone(row.text))


def _is_abandoned(old: float) -> ColumnElement[bool]:
    """Of a message: it is a customer's of before then, has no answer, and no person's since."""
    later = MESSAGES.alias("later")
    # What a person answered before this was written down answers all that came before it.
    by_a_person = and_(later.c.role == AGENT, func.coalesce(later.c.answers, later.c.id) >= MESSAGES.c.id)
    answered = select(later.c.id).where(
        later.c.conversation == MESSAGES.c.conversation,
        later.c.id > MESSAGES.c.id,
        or_(later.c.answers == MESSAGES.c.id, by_a_person),
    )
    return and_(MESSAGES.c.role == CUSTOMER, MESSAGES.c.sent < old, ~answered.correlate(MESSAGES).exists())


def _long_ago() -> float:
    return time.time() - ABANDONED_SECONDS


def _left_alone(text: str) -> str:
    return f"Asked: {text}\nThe service did not answer: it was stopped, or has failed."


def _kinds(connection: Connection, where: ColumnElement[bool]) -> Counter[str]:
    """How many answers of each kind there are among some messages."""
    query = select(MESSAGES.c.kind, func.count().label("total")).where(where, MESSAGES.c.role == "assistant")
    return Counter({row.kind: int(row.total) for row in connection.execute(query.group_by(MESSAGES.c.kind))})


def _count(connection: Connection, table: FromClause, where: ColumnElement[bool]) -> int:
    return int(connection.scalar(select(func.count()).select_from(table).where(where)) or 0)
