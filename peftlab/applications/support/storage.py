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
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from peftlab.applications.support.answering import Reply
from peftlab.applications.support.company import AGENT, CUSTOMER
from peftlab.applications.support.overview import Overview, put_into_queue, take_back
from peftlab.applications.support.tables import CONVERSATIONS, CORRECTIONS, MESSAGES, METADATA, VERSION
from peftlab.applications.support.turns import Exchange, Kind
from peftlab.assembly.database import Database
from peftlab.core.errors import UserError

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

    Attributes:
        overview: What the desk asks of all conversations.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, METADATA, owner="support", version=VERSION)
        self.overview = Overview(self._database)

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
            take_back(connection, conversation, message)
            if reply.kind is Kind.HANDED:
                put_into_queue(connection, conversation, summary)
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

    def reply(
        self, conversation: str, text: str, entry: str | None, *, was_wrong: bool, seen: int | None = None
    ) -> int:
        """An agent's answer to the last question: the customer sees it, and it becomes a row to learn from.

        Where the customer has asked more in the meantime, the conversation waits on, if it did.

        Args:
            conversation: Which.
            text: The answer.
            entry: The id of the entry that answers; None: none does.
            was_wrong: Whether it corrects an answer that was given without a person.
            seen: The last message that the agent had before the eyes; None: all.

        Raises:
            NoSuchConversationError: There is none, or nothing was asked in it.
        """
        self.conversation(conversation)
        with self._database.transaction() as connection:
            said = sqlalchemy.select(MESSAGES).filter_by(conversation=conversation, role=CUSTOMER)
            said = said.order_by(MESSAGES.c.id.desc()).limit(1)
            last = connection.execute(said).first()
            asked = last if seen is None else connection.execute(said.where(MESSAGES.c.id <= seen)).first()
            if asked is None:
                raise NoSuchConversationError("nothing was asked in this conversation")
            given = connection.execute(
                sqlalchemy.select(MESSAGES.c.question)
                .filter_by(conversation=conversation, answers=asked.id)
                .where(MESSAGES.c.question != "")
            ).first()
            question = given.question if given is not None else asked.text
            values = {
                "conversation": conversation, "key": f"agent-{secrets.token_hex(8)}", "role": AGENT, "text": text,
                "sent": time.time(), "kind": str(Kind.AGENT), "answers": asked.id, "entry": entry,
            }  # fmt: skip
            number = _inserted(connection, values)
            connection.execute(CORRECTIONS.delete().where(CORRECTIONS.c.message == asked.id))
            connection.execute(
                CORRECTIONS.insert().values(
                    message=asked.id, made=time.time(), question=question, answer=text, entry=entry, was_wrong=was_wrong
                )
            )
            if last is None or last.id == asked.id:
                own = CONVERSATIONS.c.id == conversation
                connection.execute(CONVERSATIONS.update().where(own).values(waits=False, waits_since=None))
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


def _inserted(connection: Connection, values: dict[str, Any]) -> int:
    (number,) = connection.execute(MESSAGES.insert().values(**values)).inserted_primary_key or (0,)
    return int(number)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
