"""What agents answer, as rows to learn from."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.engine import Connection, Row

from peftlab.applications.support.company import AGENT, CUSTOMER
from peftlab.applications.support.tables import CORRECTIONS, GIVEN_ALONE, MESSAGES
from peftlab.applications.support.turns import Kind

EXPORTED = ("dialogue", "role", "text", "faq", "intent")


def last_question(connection: Connection, conversation: str, seen: int | None) -> tuple[Row[Any] | None, bool]:
    """The last message in which a customer asked something, and whether no later one does; thanks ask nothing.

    Args:
        connection: To the database.
        conversation: Which.
        seen: The last message that counts; None: all.
    """
    said = select(MESSAGES).filter_by(conversation=conversation, role=CUSTOMER).order_by(MESSAGES.c.id.desc()).limit(1)
    polite = MESSAGES.alias("polite")
    answered = select(polite.c.id).where(
        polite.c.conversation == conversation, polite.c.answers == MESSAGES.c.id, polite.c.kind == str(Kind.POLITE)
    )
    asks = said.where(~answered.correlate(MESSAGES).exists())
    before = MESSAGES.c.id <= seen if seen is not None else MESSAGES.c.id > 0
    asked = connection.execute(asks.where(before)).first() or connection.execute(said.where(before)).first()
    last = connection.execute(asks).first()
    return asked, asked is not None and (last is None or last.id <= asked.id)


def correct(connection: Connection, asked: Row[Any], text: str, entry: str | None, *, was_wrong: bool) -> bool:
    """Keep what a person answers to a question; what was kept of the same question before is replaced.

    Returns:
        Whether it corrects an answer that was given without a person: one that was handed over was not wrong.
    """
    answers = connection.execute(
        select(MESSAGES)
        .filter_by(conversation=asked.conversation, answers=asked.id, role="assistant")
        .where(MESSAGES.c.question != "")
        .order_by(MESSAGES.c.id)
    ).all()
    # Of several questions in a message the person answers the one that was handed over.
    open_ = [each for each in answers if each.kind == Kind.HANDED] or answers
    question = open_[-1].question if len(open_) == 1 else asked.text
    given = select(func.count()).select_from(MESSAGES).where(
        MESSAGES.c.conversation == asked.conversation,
        or_(MESSAGES.c.question == question, MESSAGES.c.answers == asked.id),
        GIVEN_ALONE,
    )  # fmt: skip
    is_correction = was_wrong and bool(connection.scalar(given))
    connection.execute(CORRECTIONS.delete().where(CORRECTIONS.c.message == asked.id))
    connection.execute(
        CORRECTIONS.insert().values(
            message=asked.id, made=time.time(), question=question, answer=text, entry=entry, was_wrong=is_correction
        )
    )
    return is_correction


def training_rows(connection: Connection) -> list[dict[str, str]]:
    """What is kept, as rows of a table of dialogues."""
    found = []
    for row in connection.execute(select(CORRECTIONS).order_by(CORRECTIONS.c.id)):
        empty = dict.fromkeys(EXPORTED, "") | {"dialogue": f"desk-{row.id}"}
        found.append({**empty, "role": CUSTOMER, "text": row.question, "faq": row.entry or ""})
        found.append({**empty, "role": AGENT, "text": row.answer})
    return found


def inserted(connection: Connection, values: dict[str, Any]) -> int:
    """The number of a new message."""
    (number,) = connection.execute(MESSAGES.insert().values(**values)).inserted_primary_key or (0,)
    return int(number)
