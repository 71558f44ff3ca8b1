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
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from peftlab.applications.support.answering import Reply
from peftlab.applications.support.company import AGENT, CUSTOMER
from peftlab.applications.support.corrections import correct, inserted, last_question, training_rows
from peftlab.applications.support.overview import Overview, put_into_queue, take_back
from peftlab.applications.support.tables import CONVERSATIONS, GIVEN_ALONE, MESSAGES, METADATA, VERSION
from peftlab.applications.support.turns import Exchange, Kind
from peftlab.assembly.database import Database
from peftlab.core.errors import UserError

LAST_EXCHANGES = 20
"""So many answers are looked back at: whatever a customer has said before costs nothing."""
MOST_SHOWN = 500
"""Of the messages of a conversation, the last ones."""


class NoSuchConversationError(UserError):
    """There is no such conversation, or it is another customer's."""


class AnsweredMeanwhileError(UserError):
    """Another person has answered since a conversation was opened."""


@dataclass(frozen=True)
class Past:
    """What was said in a conversation before a message.

    Args:
        first: The customer's first text; empty: there is none.
        exchanges: The last ones, in order; a person's answer among them has no question of its own.
        given: The answer that a complaint is of: the last one, if it was given without a person; None: it was not.
    """

    first: str
    exchanges: Sequence[Exchange]
    given: int | None


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
                    return inserted(connection, values), True
        except IntegrityError:  # the same message has come twice at the same moment
            with self._database.transaction() as connection:
                found = connection.scalar(known)
        return int(found or 0), False

    def past(self, conversation: str, before: int, about: int | None = None) -> Past:
        """What was said before a message.

        Args:
            conversation: Whose.
            before: The message.
            about: The answer that the message is said of; None: the last one. Its question comes last then.
        """
        own = sqlalchemy.select(MESSAGES).filter_by(conversation=conversation)
        answers = own.where(MESSAGES.c.role != CUSTOMER, MESSAGES.c.id < before)
        with self._database.transaction() as connection:
            text = connection.scalar(
                sqlalchemy.select(MESSAGES.c.text)
                .filter_by(conversation=conversation, role=CUSTOMER)
                .where(MESSAGES.c.id < before)
                .order_by(MESSAGES.c.id)
                .limit(1)
            )
            rows = list(connection.execute(answers.order_by(MESSAGES.c.id.desc()).limit(LAST_EXCHANGES)))[::-1]
            meant = connection.execute(answers.where(MESSAGES.c.id == about)).first() if about is not None else None
        if meant is not None and meant.question:
            rows = [*([] if meant in rows else [meant]), *rows]
            rows.sort(key=lambda row: row.question == meant.question)
        exchanges = [
            Exchange(row.question or "", Kind(row.kind), row.entry, tuple(json.loads(row.sources))) for row in rows
        ]
        last = next((row for row in reversed(rows) if row.kind != Kind.POLITE), None)
        given = last.id if last is not None and last.kind in (Kind.ENTRY, Kind.WRITTEN) else None
        return Past(text or "", exchanges, given)

    def answer(
        self, conversation: str, message: int, replies: Sequence[Reply], summary: str, seconds: float
    ) -> Sequence[Row[Any]]:
        """Store what answers a message, and put the conversation into the agents' queue where it is handed over.

        Where a person has answered the message meanwhile, nothing is stored: that is the answer.

        Returns:
            The rows that answer the message.
        """
        later = sqlalchemy.select(MESSAGES).filter_by(conversation=conversation).where(MESSAGES.c.id > message)
        own = later.order_by(MESSAGES.c.id)  # what came before is not looked through
        with self._database.transaction() as connection:
            by_a_person = connection.execute(own.where(MESSAGES.c.role == AGENT, MESSAGES.c.answers >= message)).all()
            if by_a_person:
                take_back(connection, conversation, message)
                return by_a_person
            for place, reply in enumerate(replies):
                # No key of a customer has a blank.
                values = {
                    "conversation": conversation,
                    "key": f"answer {message} {place}",
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
                inserted(connection, values)
            take_back(connection, conversation, message)
            if any(reply.kind is Kind.HANDED for reply in replies):
                put_into_queue(connection, conversation, summary)
            return connection.execute(own.where(MESSAGES.c.answers == message)).all()

    def rate(self, conversation: str, message: int, *, helped: bool) -> None:
        """What a customer says of an answer.

        Raises:
            NoSuchConversationError: The answer is none of this conversation's.
        """
        with self._database.transaction() as connection:
            done = connection.execute(
                MESSAGES.update()
                .where(MESSAGES.c.id == message, MESSAGES.c.conversation == conversation, GIVEN_ALONE)
                .values(helped=helped)
            )
        if done.rowcount != 1:
            raise NoSuchConversationError("there is no such answer in this conversation")

    def messages(self, conversation: str, after: int = 0) -> Sequence[Row[Any]]:
        """The last ones of a conversation that come after one of them, in order."""
        last = sqlalchemy.select(MESSAGES).filter_by(conversation=conversation).where(MESSAGES.c.id > after)
        with self._database.transaction() as connection:
            return connection.execute(last.order_by(MESSAGES.c.id.desc()).limit(MOST_SHOWN)).all()[::-1]

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
    ) -> tuple[int, bool]:
        """An agent's answer to the last question: the customer sees it, and it becomes a row to learn from.

        Where the customer has asked more in the meantime, the conversation waits on, if it did.

        Args:
            conversation: Which.
            text: The answer.
            entry: The id of the entry that answers; None: none does.
            was_wrong: Whether it corrects an answer that was given without a person.
            seen: The last message that the agent had before the eyes; None: all.

        Returns:
            The message's number, and whether it corrects an answer: one to that question was given without a person.

        Raises:
            NoSuchConversationError: There is none, or nothing was asked in it.
            AnsweredMeanwhileError: Another person has answered since the agent looked; nothing was stored.
        """
        self.conversation(conversation)
        with self._database.transaction() as connection:
            own = sqlalchemy.select(MESSAGES).filter_by(conversation=conversation).order_by(MESSAGES.c.id.desc())
            later = own.where(MESSAGES.c.role == AGENT, MESSAGES.c.id > (seen or 0))
            if seen is not None and connection.execute(later.limit(1)).first() is not None:
                raise AnsweredMeanwhileError("somebody has answered since this conversation was opened")
            asked, is_last = last_question(connection, conversation, seen)
            if asked is None:
                raise NoSuchConversationError("nothing was asked in this conversation")
            values = {
                "conversation": conversation, "key": f"agent {secrets.token_hex(8)}", "role": AGENT, "text": text,
                "sent": time.time(), "kind": str(Kind.AGENT), "answers": asked.id, "entry": entry,
            }  # fmt: skip
            number = inserted(connection, values)
            is_correction = correct(connection, asked, text, entry, was_wrong=was_wrong)
            if is_last:
                of_it = CONVERSATIONS.c.id == conversation
                connection.execute(CONVERSATIONS.update().where(of_it).values(waits=False, waits_since=None))
        return number, is_correction

    def training_rows(self) -> list[dict[str, str]]:
        """What agents answered, as rows of a table of dialogues."""
        with self._database.transaction() as connection:
            return training_rows(connection)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
