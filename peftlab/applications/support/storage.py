"""Conversations in the database. What a customer has sent is stored before anything else is done with it."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from peftlab.applications.support.answering import Reply
from peftlab.applications.support.company import AGENT, CUSTOMER
from peftlab.applications.support.turns import Exchange, Kind
from peftlab.assembly.database import Database
from peftlab.core.errors import UserError

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
ABANDONED_SECONDS = 60.0
"""So long after a message without an answer a person is to answer: the process that had it is gone."""
EXPORTED = ("dialogue", "role", "text", "faq", "intent")


class NoSuchConversationError(UserError):
    """There is no such conversation, or it is another customer's."""


@dataclass(frozen=True)
class Session:
    """A customer's own conversation.

    Args:
        id: As agents see it.
        secret: What only the customer's browser knows.
    """

    id: str
    secret: str

    @property
    def cookie(self) -> str:
        """Both, as the browser keeps them."""
        return f"{self.id}.{self.secret}"


class Storage:
    """Reads and writes conversations.

    Args:
        url: SQLAlchemy's address of the database.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, METADATA, owner="support", version=VERSION)

    # --- customers ------------------------------------------------------------------------------------------------

    def start(self) -> Session:
        """A new conversation. Of the secret only a hash is kept."""
        session = Session(secrets.token_hex(16), secrets.token_urlsafe(32))
        with self._database.transaction() as connection:
            connection.execute(
                CONVERSATIONS.insert().values(
                    id=session.id, secret=_hashed(session.secret), started=time.time(), waits=False, summary=""
                )
            )
        return session

    def find(self, cookie: str) -> Session | None:
        """The conversation of a browser; None: it has none, or the secret is wrong."""
        name, _, secret = cookie.partition(".")
        with self._database.transaction() as connection:
            row = connection.execute(sqlalchemy.select(CONVERSATIONS.c.secret).filter_by(id=name)).first()
        known = row is not None and secrets.compare_digest(row.secret, _hashed(secret))
        return Session(name, secret) if known else None

    def accept(self, conversation: str, key: str, text: str) -> tuple[int, bool]:
        """Store what a customer says; once, however often it is sent.

        Args:
            conversation: Whose.
            key: The browser's own name for the message.
            text: What is said.

        Returns:
            The message's number, and whether it is new.
        """
        values = {"conversation": conversation, "key": key, "role": CUSTOMER, "text": text, "sent": time.time()}
        known = sqlalchemy.select(MESSAGES.c.id).filter_by(conversation=conversation, key=key)
        try:
            with self._database.transaction() as connection:
                found = connection.scalar(known)
                if found is None:
                    return _inserted(connection, values), True
        except IntegrityError:  # the same message has come twice at the same moment
            with self._database.transaction() as connection:
                found = connection.scalar(known)
        return int(found or 0), False

    def history(self, conversation: str, before: int) -> tuple[list[str], list[Exchange]]:
        """What was said before a message: the customer's texts, and what came of them."""
        texts, exchanges = [], []
        for row in self.messages(conversation):
            if row.id >= before:
                break
            if row.role == CUSTOMER:
                texts.append(row.text)
            elif row.question:
                exchanges.append(Exchange(row.question, Kind(row.kind), row.entry, tuple(json.loads(row.sources))))
        return texts, exchanges

    def answer(self, conversation: str, message: int, reply: Reply, summary: str, seconds: float) -> int:
        """Store an answer, and put the conversation into the agents' queue where it is handed over."""
        values = {
            "conversation": conversation,
            "key": f"answer-{message}",
            "role": "assistant",
            "text": reply.text,
            "sent": time.time(),
            "kind": str(reply.kind),
            "answers": message,
            "question": reply.question,
            "entry": reply.entry.id if reply.entry is not None else None,
            "sources": json.dumps([entry.id for entry in reply.sources]),
            "confidence": reply.confidence,
            "seconds": seconds,
        }
        with self._database.transaction() as connection:
            number = _inserted(connection, values)
            if reply.kind is Kind.HANDED:
                _queue(connection, conversation, summary)
        return number

    def rate(self, conversation: str, message: int, *, helped: bool) -> None:
        """What a customer says of an answer.

        Raises:
            NoSuchConversationError: The answer is none of this conversation's.
        """
        with self._database.transaction() as connection:
            done = connection.execute(
                MESSAGES.update()
                .where(MESSAGES.c.id == message, MESSAGES.c.conversation == conversation, MESSAGES.c.role != CUSTOMER)
                .values(helped=helped)
            )
        if done.rowcount != 1:
            raise NoSuchConversationError("there is no such answer in this conversation")

    def messages(self, conversation: str) -> Sequence[Row[Any]]:
        """All of a conversation, in order."""
        with self._database.transaction() as connection:
            return connection.execute(
                sqlalchemy.select(MESSAGES).filter_by(conversation=conversation).order_by(MESSAGES.c.id)
            ).all()

    # --- agents ---------------------------------------------------------------------------------------------------

    def queue(self) -> list[dict[str, Any]]:
        """Conversations that wait for a person, the oldest first; also those whose answer never came."""
        with self._database.transaction() as connection:
            _queue_abandoned(connection)
            rows = connection.execute(
                sqlalchemy.select(CONVERSATIONS).filter_by(waits=True).order_by(CONVERSATIONS.c.waits_since)
            ).all()
        return [{"id": row.id, "summary": row.summary, "since": row.waits_since} for row in rows]

    def latest(self, count: int) -> list[dict[str, Any]]:
        """The last conversations in which something was answered."""
        last = sqlalchemy.select(MESSAGES.c.conversation, sqlalchemy.func.max(MESSAGES.c.id).label("last")).group_by(
            MESSAGES.c.conversation
        )
        chosen = last.order_by(sqlalchemy.desc("last")).limit(count).subquery()
        with self._database.transaction() as connection:
            rows = connection.execute(
                sqlalchemy.select(MESSAGES.c.conversation, MESSAGES.c.text, MESSAGES.c.sent)
                .join(chosen, chosen.c.last == MESSAGES.c.id)
                .order_by(MESSAGES.c.id.desc())
            ).all()
        return [{"id": row.conversation, "text": row.text, "sent": row.sent} for row in rows]

    def conversation(self, name: str) -> Row[Any]:
        """Of agents.

        Raises:
            NoSuchConversationError: There is none.
        """
        with self._database.transaction() as connection:
            row = connection.execute(sqlalchemy.select(CONVERSATIONS).filter_by(id=name)).first()
        if row is None:
            raise NoSuchConversationError("there is no such conversation")
        return row

    def reply(self, conversation: str, text: str, entry: str | None, *, was_wrong: bool) -> int:
        """An agent's answer to the last question: the customer sees it, and it becomes a row to learn from.

        Args:
            conversation: Which.
            text: The answer.
            entry: The id of the entry that answers; None: none does.
            was_wrong: Whether it corrects an answer that was given without a person.

        Raises:
            NoSuchConversationError: There is none, or nothing was asked in it.
        """
        self.conversation(conversation)
        with self._database.transaction() as connection:
            asked = connection.execute(
                sqlalchemy.select(MESSAGES)
                .filter_by(conversation=conversation, role=CUSTOMER)
                .order_by(MESSAGES.c.id.desc())
                .limit(1)
            ).first()
            if asked is None:
                raise NoSuchConversationError("nothing was asked in this conversation")
            given = connection.execute(
                sqlalchemy.select(MESSAGES.c.question).filter_by(conversation=conversation, answers=asked.id)
            ).first()
            question = given.question if given is not None and given.question else asked.text
            values = {
                "conversation": conversation, "key": f"agent-{secrets.token_hex(8)}", "role": AGENT, "text": text,
                "sent": time.time(), "kind": str(Kind.AGENT), "entry": entry,
            }  # fmt: skip
            number = _inserted(connection, values)
            connection.execute(CORRECTIONS.delete().where(CORRECTIONS.c.message == asked.id))
            connection.execute(
                CORRECTIONS.insert().values(
                    message=asked.id, made=time.time(), question=question, answer=text, entry=entry, was_wrong=was_wrong
                )
            )
            connection.execute(
                CONVERSATIONS.update().where(CONVERSATIONS.c.id == conversation).values(waits=False, waits_since=None)
            )
        return number

    def training_rows(self) -> list[dict[str, str]]:
        """What agents answered, as rows of a table of dialogues."""
        with self._database.transaction() as connection:
            rows = connection.execute(sqlalchemy.select(CORRECTIONS).order_by(CORRECTIONS.c.id)).all()
        found = []
        for row in rows:
            name = f"desk-{row.id}"
            empty = dict.fromkeys(EXPORTED, "")
            found.append({**empty, "dialogue": name, "role": CUSTOMER, "text": row.question, "faq": row.entry or ""})
            found.append({**empty, "dialogue": name, "role": AGENT, "text": row.answer})
        return found

    def figures(self) -> dict[str, float | None]:
        """What the desk shows: counts, shares, and seconds at the median; None where there is nothing to tell of."""
        with self._database.transaction() as connection:
            kinds: dict[str, int] = {
                row.kind: int(row.total)
                for row in connection.execute(
                    sqlalchemy.select(MESSAGES.c.kind, sqlalchemy.func.count().label("total"))
                    .where(MESSAGES.c.role == "assistant")
                    .group_by(MESSAGES.c.kind)
                )
            }
            seconds = connection.scalars(
                sqlalchemy.select(MESSAGES.c.seconds)
                .where(MESSAGES.c.seconds.is_not(None))
                .order_by(MESSAGES.c.id.desc())
                .limit(1000)
            ).all()
            wrong = connection.scalar(
                sqlalchemy.select(sqlalchemy.func.count()).select_from(CORRECTIONS).where(CORRECTIONS.c.was_wrong)
            )
            unhelpful = connection.scalar(
                sqlalchemy.select(sqlalchemy.func.count()).select_from(MESSAGES).where(MESSAGES.c.helped.is_(False))
            )
        alone = kinds.get("entry", 0) + kinds.get("written", 0)
        total = alone + kinds.get("handed", 0)
        ordered = sorted(seconds)
        return {
            "questions": total,
            "by_entry": kinds.get("entry", 0),
            "by_written_text": kinds.get("written", 0),
            "handed_over": kinds.get("handed", 0),
            "share_answered": alone / total if total else None,
            "corrected_as_wrong": int(wrong or 0),
            "did_not_help": int(unhelpful or 0),
            "share_wrong": int(wrong or 0) / alone if alone else None,
            "median_seconds": float(ordered[len(ordered) // 2]) if ordered else None,
        }


def _inserted(connection: Connection, values: dict[str, Any]) -> int:
    (number,) = connection.execute(MESSAGES.insert().values(**values)).inserted_primary_key or (0,)
    return int(number)


def _queue(connection: Connection, conversation: str, summary: str) -> None:
    connection.execute(
        CONVERSATIONS.update()
        .where(CONVERSATIONS.c.id == conversation)
        .values(waits=True, waits_since=time.time(), summary=summary)
    )


def _queue_abandoned(connection: Connection) -> None:
    """Queue conversations whose last message is a customer's and has no answer for long."""
    answered = sqlalchemy.select(MESSAGES.c.answers).where(MESSAGES.c.answers.is_not(None))
    last = sqlalchemy.select(sqlalchemy.func.max(MESSAGES.c.id)).group_by(MESSAGES.c.conversation)
    rows = connection.execute(
        sqlalchemy.select(MESSAGES.c.conversation, MESSAGES.c.text)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == MESSAGES.c.conversation)
        .where(
            MESSAGES.c.id.in_(last),
            MESSAGES.c.role == CUSTOMER,
            MESSAGES.c.id.not_in(answered),
            MESSAGES.c.sent < time.time() - ABANDONED_SECONDS,
            CONVERSATIONS.c.waits.is_(False),
        )
    ).all()
    for row in rows:
        _queue(connection, row.conversation, f"Asked: {row.text}\nThe service was stopped before it could answer.")


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
