"""Conversations as people have them: several questions, complaints, a person who comes in, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from starlette.exceptions import HTTPException

from peftlab.applications.support import desk
from peftlab.applications.support.answering import COMES, GREETING, Reply, Responder
from peftlab.applications.support.company import Company, Entry
from peftlab.applications.support.desk import _Room
from peftlab.applications.support.questions import parted
from peftlab.applications.support.search import Ranked
from peftlab.applications.support.storage import LAST_EXCHANGES, AnsweredMeanwhileError, Session, Storage
from peftlab.applications.support.turns import KEPT, Exchange, Kind, understand

ENTRIES = [Entry("pay", "How can I pay?", "By card."), Entry("hours", "When are you open?", "From 9 to 5.")]
ASKED = [Exchange("how do I pay", Kind.ENTRY, "pay")]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"sqlite:///{tmp_path / 'desk.db'}")


def ask(storage: Storage, session: Session, text: str) -> int:
    return storage.accept(session.id, f"key-{time.monotonic_ns()}", text)[0]


def answer(storage: Storage, session: Session, number: int, *replies: Reply) -> list[int]:
    return [row.id for row in storage.answer(session.id, number, replies, f"Asked: {replies[-1].question}", 0.5)]


def given(question: str, entry: Entry = ENTRIES[0]) -> Reply:
    return Reply(Kind.ENTRY, entry.answer, question, 0.9, entry)


def handed(question: str) -> Reply:
    return Reply(Kind.HANDED, "later", question)


def responder() -> Responder:
    """Is sure of questions that hold an entry's id; others are handed over."""

    def rank(texts: Sequence[str], *_: Any) -> Ranked:
        (text,) = texts
        at = next((place for place, entry in enumerate(ENTRIES) if entry.id in text), 0)
        sure = float(ENTRIES[at].id in text)
        return Ranked(np.array([[at, 1 - at]]), np.array([[5.0, 1.0]]), np.array([[sure]]))

    def of(evidence: Any) -> Any:
        return evidence[:, 0]

    bound, weights = SimpleNamespace(threshold=0.9), SimpleNamespace(probability=of)
    decision = SimpleNamespace(
        full=None, again=None, first=weights, among=weights, answer=bound, write=bound, set_aside=(), containment=1.0
    )
    searcher = SimpleNamespace(read=lambda texts: None, rank=rank)
    settings = SimpleNamespace(considered=2, passages=2, max_new_tokens=8)
    return Responder(settings, Company(ENTRIES, []), SimpleNamespace(writer=None), searcher, decision)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("How can I pay? And when do you open?", ["How can I pay?", "when do you open?"]),
        ("how can I pay and when do you open", ["how can I pay", "when do you open"]),
        ("How do I pay?\nHow long is it open?", []),  # the second points back
        ("How do I return it? Is it free?", []),
        ("My card is lost. I am abroad. How do I get a new one? What does a transfer cost?",
         ["My card is lost. I am abroad. How do I get a new one?", "What does a transfer cost?"]),
        ("What does a transfer cost? How can I pay? I am in France.",
         ["What does a transfer cost?", "How can I pay? I am in France."]),
        ("I forgot my password. What now?", []),
        ("I want to know how and when I pay", []),
        ("how can I pay", []),
        ("Why is that so? " * 40, []),
        ("How can I pay? " * 40, []),
        ("", []),
    ],
)  # fmt: skip
def test_a_message_is_taken_apart_where_each_part_can_be_told_alone(text: str, questions: list[str]) -> None:
    assert parted(text) == questions


def test_each_of_two_questions_gets_its_answer() -> None:
    answers = responder().answers
    both = answers("how does pay work? And what are the hours?")
    assert [(each.text, each.question) for each in both] == [
        ("By card.", "how does pay work?"),
        ("From 9 to 5.", "what are the hours?"),
    ]
    with_a_third = answers("how does pay work? what are the hours? who is the king?")
    assert [each.kind for each in with_a_third] == [Kind.ENTRY, Kind.ENTRY, Kind.HANDED]
    assert with_a_third[-1].question == "who is the king?"
    (same,) = answers("how does pay work? can I pay by card?")
    assert same.question == "how does pay work? can I pay by card?"
    (one,) = answers("how does pay work? can you help me please?")  # which asks nothing more
    assert one.text == "By card."
    (after,) = answers("no, how does pay work and what are the hours", [Exchange("who is the king", Kind.ENTRY, "x")])
    assert after.kind is Kind.ENTRY


def test_complaints_thanks_and_wishes_are_told_from_questions() -> None:
    for complaint in ("I already tried that", "I've tried it already", "useless", "That's wrong!", "👎",
                      "thanks but that did not help", "Ok, but it does not work"):  # fmt: skip
        turn = understand(complaint, ASKED)
        assert (turn.questions, turn.tried, turn.complaints) == (("how do I pay",), frozenset({"pay"}), 1), complaint
    for thanks in ("👍", "🙏🏽 😊", "thanks"):
        assert understand(thanks, ASKED).is_thanks, thanks
    assert not understand("👍", []).is_thanks
    assert not understand("???", ASKED).is_thanks
    bare = understand("can I please talk to a person", ASKED)
    assert (bare.wants_person, bare.questions) == (True, ("how do I pay",))
    about = "I want to talk to a person about my lost parcel"
    assert understand(about, ASKED).questions == (about,)


def test_a_greeting_is_no_thanks_and_who_waits_is_told_so() -> None:
    answers = responder().answers
    assert answers("hello")[0].text.startswith(GREETING)
    assert not answers("thanks")[0].text.startswith(GREETING)
    waits = [Exchange("who is the king", Kind.HANDED)]
    assert answers("hello?", waits)[0].text.endswith(COMES)
    assert not answers("hello?", [*waits, Exchange("", Kind.AGENT)])[0].text.endswith(COMES)


def test_what_a_person_answered_and_did_not_help_goes_to_a_person() -> None:
    history = [*ASKED, Exchange("", Kind.AGENT)]
    (reply,) = responder().answers("that did not help", history)
    assert (reply.kind, reply.reason) == (Kind.HANDED, "what a person answered did not help")
    assert understand("that did not help", [*history, *ASKED]).to_a_person is False


def test_a_question_that_goes_on_and_on_does_not_grow() -> None:
    history = ASKED
    for _ in range(20):
        longest = max(understand(f"and {'word ' * 300}", history).questions, key=len)
        history = [Exchange(longest, Kind.ENTRY, "pay")]
    assert len(longest) <= 1600 + KEPT


def test_a_complaint_is_of_the_answer_that_it_names(storage: Storage) -> None:
    session = storage.start()
    (first,) = answer(storage, session, ask(storage, session, "how do I pay"), given("how do I pay"))
    answer(storage, session, ask(storage, session, "when"), given("when are you open", ENTRIES[1]))
    number = ask(storage, session, "That did not help")
    assert understand("That did not help", storage.past(session.id, number).exchanges).tried == {"hours"}
    assert storage.past(session.id, number, first).given == first < (storage.past(session.id, number).given or 0)
    turn = understand("That did not help", storage.past(session.id, number, first).exchanges)
    assert (turn.questions, turn.tried) == (("how do I pay",), frozenset({"pay"}))
    for _ in range(LAST_EXCHANGES + 2):
        answer(storage, session, ask(storage, session, "when"), given("when are you open", ENTRIES[1]))
    number = ask(storage, session, "That did not help")
    assert understand("no", storage.past(session.id, number, first).exchanges).tried == {"pay"}
    other = storage.start()
    number = ask(storage, other, "That did not help")
    assert storage.past(other.id, number, first).exchanges == [], "another customer's answer tells nothing"
    storage.reply(session.id, "By card.", None, was_wrong=False)
    assert storage.past(session.id, ask(storage, session, "no")).given is None, "a person gave it"


def test_the_past_costs_the_same_however_much_was_said(storage: Storage) -> None:
    read = 0

    def count() -> int:
        nonlocal read
        read += 1
        return 0

    session = storage.start()

    def talk(times: int) -> int:
        nonlocal read
        for _ in range(times):
            answer(storage, session, ask(storage, session, "how do I pay"), given("how do I pay"))
        number = ask(storage, session, "and now")
        engine = storage._database.engine
        with engine.connect() as connection:
            connection.connection.driver_connection.set_progress_handler(count, 20)  # type: ignore[union-attr]
        read = 0
        past = storage.past(session.id, number)
        answer(storage, session, number, given("and now"))
        assert past.first == "how do I pay"
        assert len(past.exchanges) == LAST_EXCHANGES
        return read

    few = talk(LAST_EXCHANGES + 5)
    assert talk(400) <= 1.2 * few + 2
    last = storage.messages(session.id)[-1].id
    assert [row.id for row in storage.messages(session.id, last - 1)] == [last]


def test_a_person_who_answers_first_has_the_last_word(storage: Storage) -> None:
    session = storage.start()
    number = ask(storage, session, "who is the king")
    storage.reply(session.id, "There is none.", None, was_wrong=False)
    (row,) = storage.answer(session.id, number, [handed("who is the king")], "Asked: who is the king", 40)
    assert (row.role, row.text) == ("agent", "There is none.")
    assert storage.overview.queue() == []
    assert [each.role for each in storage.messages(session.id)] == ["customer", "agent"]
    later = ask(storage, session, "and the queen")
    assert [each.role for each in storage.answer(session.id, later, [handed("and the queen")], "x", 1)] == ["assistant"]
    assert len(storage.overview.queue()) == 1


def test_whoever_asks_again_keeps_the_place_in_the_queue(storage: Storage) -> None:
    first, second = storage.start(), storage.start()
    for session in (first, second, first):
        answer(storage, session, ask(storage, session, "who is the king"), handed("who is the king"))
    assert [each["id"] for each in storage.overview.queue()] == [first.id, second.id]


def test_two_people_do_not_answer_the_same(storage: Storage) -> None:
    session = storage.start()
    (seen,) = answer(storage, session, ask(storage, session, "who is the king"), handed("who is the king"))
    storage.reply(session.id, "None.", None, was_wrong=False, seen=seen)
    with pytest.raises(AnsweredMeanwhileError, match="somebody has answered since"):
        storage.reply(session.id, "None at all.", None, was_wrong=False, seen=seen)
    assert [row["text"] for row in storage.training_rows()] == ["who is the king", "None."]


def test_thanks_are_no_question_to_learn_from(storage: Storage) -> None:
    session = storage.start()
    answer(storage, session, ask(storage, session, "how do I pay"), given("how do I pay"))
    answer(storage, session, ask(storage, session, "thanks!"), Reply(Kind.POLITE, "You are welcome.", ""))
    storage.reply(session.id, "By card or invoice.", "pay", was_wrong=True)
    assert [row["text"] for row in storage.training_rows()] == ["how do I pay", "By card or invoice."]
    assert storage.overview.figures()["corrected_as_wrong"] == 1
    alone = storage.start()
    answer(storage, alone, ask(storage, alone, "hello"), Reply(Kind.POLITE, "Hello.", ""))
    storage.reply(alone.id, "How can I help?", None, was_wrong=False)
    assert storage.training_rows()[-2]["text"] == "hello"


def test_only_answers_without_a_person_count_as_wrong(storage: Storage) -> None:
    session, other = storage.start(), storage.start()
    (number,) = answer(storage, session, ask(storage, session, "who is the king"), handed("who is the king"))
    assert storage.reply(session.id, "None.", None, was_wrong=True)[1] is False
    answer(storage, other, ask(storage, other, "how do I pay"), given("how do I pay"))
    assert storage.overview.figures()["share_wrong"] == 0
    # After a complaint the last answer is a hand-over, and what was wrong is the one before.
    answer(storage, other, ask(storage, other, "that did not help"), handed("how do I pay"))
    assert storage.reply(other.id, "By invoice.", None, was_wrong=True)[1] is True
    assert storage.overview.figures()["share_wrong"] == 1
    with pytest.raises(Exception, match="no such answer"):
        storage.rate(session.id, number, helped=False)


def test_of_several_questions_a_person_answers_the_one_that_was_handed_over(storage: Storage) -> None:
    session = storage.start()
    number = ask(storage, session, "how do I pay? who is the king?")
    answer(storage, session, number, given("how do I pay?"), handed("who is the king?"))
    assert storage.overview.figures()["questions"] == 2
    assert len(storage.overview.queue()) == 1
    storage.reply(session.id, "None.", None, was_wrong=False)
    assert storage.training_rows()[0]["text"] == "who is the king?"
    both = ask(storage, session, "how do I pay? when?")
    answer(storage, session, both, given("how do I pay?"), given("when?", ENTRIES[1]))
    storage.reply(session.id, "By card, at nine.", None, was_wrong=True)
    assert storage.training_rows()[2]["text"] == "how do I pay? when?", "which of them is not known"


def test_a_customers_key_is_never_that_of_an_answer(storage: Storage) -> None:
    from pydantic import ValidationError

    from peftlab.applications.support.site import Message

    session = storage.start()
    number, _ = storage.accept(session.id, "answer-1", "how do I pay")
    assert number == 1
    assert answer(storage, session, number, given("how do I pay"))
    with storage._database.transaction() as connection:
        keys = connection.scalars(sqlalchemy.text("SELECT key FROM messages WHERE role != 'customer'")).all()
    for key in keys:
        with pytest.raises(ValidationError):
            Message(text="x", key=key)


def test_one_conversation_does_not_take_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_WAITING", 6)
    room = _Room()
    for _ in range(desk.MOST_OF_ONE):
        room.enter("a")
    with pytest.raises(HTTPException, match="your last messages"):
        room.enter("a")
    room.enter("b")
    room.enter("c")
    with pytest.raises(HTTPException, match="too many"):
        room.enter("d")
    room.leave("a")
    room.enter("d")
    for name in ("a", "a", "a", "b", "c", "d"):
        room.leave(name)
    assert not room._inside
