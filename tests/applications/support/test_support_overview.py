"""What the desk asks every few seconds: right, whatever happens meanwhile, and no dearer with what is stored."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from peftlab.applications.support import overview
from peftlab.applications.support.answering import Reply
from peftlab.applications.support.overview import Overview
from peftlab.applications.support.storage import Session, Storage
from peftlab.applications.support.tables import MESSAGES
from peftlab.applications.support.turns import Kind


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"sqlite:///{tmp_path / 'desk.db'}")


def ask(storage: Storage, session: Session, text: str = "where is it") -> int:
    return storage.accept(session.id, f"key-{time.monotonic_ns()}", text)[0]


def answer(storage: Storage, session: Session, number: int, kind: Kind = Kind.ENTRY) -> int:
    question = "" if kind is Kind.POLITE else "a question"
    return int(storage.answer(session.id, number, [Reply(kind, "an answer", question)], "summary", 0.5)[-1].id)


def make_old(storage: Storage, seconds: float = 3600) -> None:
    with storage._database.transaction() as connection:
        connection.execute(MESSAGES.update().values(sent=MESSAGES.c.sent - seconds))


def test_figures_are_the_same_however_often_they_are_asked(storage: Storage) -> None:
    sessions = [storage.start() for _ in range(3)]
    for at, kind in enumerate([Kind.ENTRY, Kind.WRITTEN, Kind.HANDED, Kind.POLITE, Kind.ENTRY] * 3):
        session = sessions[at % 3]
        number = answer(storage, session, ask(storage, session), kind)
        if at % 5 == 0:
            storage.rate(session.id, number, helped=False)
        if at == 7:
            make_old(storage)
        found = storage.overview.figures()
        assert found == Overview(storage._database).figures() == storage.overview.figures()
    assert (found["questions"], found["by_entry"], found["by_written_text"], found["handed_over"]) == (12, 6, 3, 3)
    assert (found["did_not_help"], found["share_answered"], found["median_seconds"]) == (3, 0.75, 0.5)
    storage.rate(session.id, number, helped=False)  # of an answer that was counted long ago
    make_old(storage)
    assert storage.overview.figures()["did_not_help"] == 4


def test_a_message_without_an_answer_goes_to_a_person_also_when_a_later_one_was_answered(storage: Storage) -> None:
    session, other = storage.start(), storage.start()
    ask(storage, session, "the one that was lost")
    assert storage.overview.queue() == []
    answer(storage, session, ask(storage, session))
    answer(storage, other, ask(storage, other))
    make_old(storage)
    (waiting,) = storage.overview.queue()
    assert waiting["id"] == session.id
    assert "the one that was lost" in waiting["summary"]
    assert storage.overview.waiting() == 1
    storage.reply(session.id, "here it is", None, was_wrong=False)
    make_old(storage)
    assert storage.overview.queue() == Overview(storage._database).queue() == []


def test_an_answer_that_comes_late_takes_the_conversation_out_of_the_queue_again(storage: Storage) -> None:
    session = storage.start()
    number = ask(storage, session)
    make_old(storage)
    assert len(storage.overview.queue()) == 1
    answer(storage, session, number)
    assert storage.overview.queue() == []
    handed = ask(storage, session)
    answer(storage, session, handed, Kind.HANDED)
    answer(storage, session, ask(storage, session))
    assert [each["summary"] for each in storage.overview.queue()] == ["summary"]


def test_an_answer_that_comes_late_leaves_the_other_lost_message_in_the_queue(storage: Storage) -> None:
    session = storage.start()
    first, second = ask(storage, session, "the first"), ask(storage, session, "the second")
    make_old(storage)
    assert len(storage.overview.queue()) == 1
    answer(storage, session, second)
    assert len(storage.overview.queue()) == 1
    answer(storage, session, first)
    assert len(storage.overview.queue()) <= 1  # a person may look at it once too often, and never misses one


def test_what_a_customer_asks_while_an_agent_writes_is_not_taken_for_answered(storage: Storage) -> None:
    session = storage.start()
    first = ask(storage, session, "where is my parcel")
    seen = answer(storage, session, first, Kind.HANDED)
    later = ask(storage, session, "and where is my refund")
    answer(storage, session, later, Kind.HANDED)
    by_a_person, _ = storage.reply(session.id, "In the post.", "parcel", was_wrong=False, seen=seen)
    assert [row["text"] for row in storage.training_rows()] == ["a question", "In the post."]
    assert len(storage.overview.queue()) == 1, "the second question still waits"
    alone = ask(storage, session, "a third one, which nobody answers")
    assert by_a_person < alone
    storage.reply(session.id, "On its way.", None, was_wrong=False, seen=by_a_person)
    make_old(storage)
    assert len(storage.overview.queue()) == 1
    storage.reply(session.id, "Yes.", None, was_wrong=False, seen=storage.messages(session.id)[-1].id)
    assert storage.overview.queue() == []
    assert len(storage.training_rows()) == 6


def test_the_latest_are_found_behind_a_customer_who_has_said_much(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "AT_ONCE", 4)
    sessions = [storage.start() for _ in range(3)]
    for session in sessions:
        answer(storage, session, ask(storage, session))
    for _ in range(11):
        ask(storage, sessions[0])
    last = ask(storage, sessions[0], "the last")
    found = storage.overview.latest(2)
    assert [each["id"] for each in found] == [sessions[0].id, sessions[2].id]
    assert found[0]["text"] == storage.messages(sessions[0].id)[-1].text == "the last"
    assert len(storage.overview.latest(20)) == 3
    assert last == storage.messages(sessions[0].id)[-1].id
    answer(storage, sessions[0], last)
    assert storage.overview.latest(1)[0]["text"] == "the last"


def test_what_is_asked_every_few_seconds_does_not_grow_with_what_is_stored(storage: Storage, tmp_path: Path) -> None:
    """By the steps that SQLite takes, which no load of the machine changes."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def listen(raw: Any, *_: Any) -> None:
        raw.set_progress_handler(count, 100)

    def cost() -> int:
        nonlocal steps
        steps = 0
        storage.overview.queue()
        storage.overview.latest(20)
        storage.overview.figures()
        return steps

    def fill(conversations: int) -> None:
        long_ago = time.time() - 86400
        with sqlite3.connect(tmp_path / "desk.db") as raw:
            for _ in range(conversations):
                name = f"{time.monotonic_ns()}"
                raw.execute("INSERT INTO conversations VALUES (?, 'x', ?, 0, NULL, '')", (name, long_ago))
                for at in range(5):
                    asked = raw.execute(
                        "INSERT INTO messages (conversation, key, role, text, sent, sources) "
                        "VALUES (?, ?, 'customer', 'x', ?, '[]')",
                        (name, f"key-{at}", long_ago),
                    ).lastrowid
                    raw.execute(
                        "INSERT INTO messages (conversation, key, role, text, sent, kind, answers, seconds, sources) "
                        "VALUES (?, ?, 'assistant', 'x', ?, 'entry', ?, 0.1, '[]')",
                        (name, f"answer-{asked}", long_ago, asked),
                    )

    sqlalchemy.event.listen(storage._database.engine, "connect", listen)
    storage._database.engine.dispose()
    fill(400)
    cost()
    few = cost()
    fill(1600)
    first = cost()
    assert cost() <= 1.2 * few
    assert first > 2 * few, "the steps are counted"
