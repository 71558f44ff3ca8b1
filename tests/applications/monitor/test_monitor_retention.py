"""What a monitor deletes, and what it keeps although it is old."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from pydantic import ValidationError
from sqlalchemy import select

from peftlab.applications.monitor import retention, views
from peftlab.applications.monitor.intake import keep
from peftlab.applications.monitor.retention import CLEAN_EVERY, Cleaner, clean, forget
from peftlab.applications.monitor.rows import set_mark
from peftlab.applications.monitor.settings import Retention
from peftlab.applications.monitor.store import Post, Store
from peftlab.applications.monitor.tables import ALARMS, HOURS, OUTBOX, REFUSED, TEXTS, VOICES
from peftlab.applications.monitor.times import HOUR
from peftlab.applications.monitor.watcher import JUDGED
from tests.applications.monitor.word_reader import WordReader

DAY = 24
NOW = 480_000
"""Hours since 1970."""
WEEK = Retention.model_validate({"texts_days": 7, "series_days": 63})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'a.db'}")


def post(name: str, hour: int, stream: str = "united") -> Post:
    return Post(name, f"bad delay {name}", hour * HOUR, stream)


def judged(store: Store, hour: int = NOW) -> None:
    with store.transaction() as connection:
        set_mark(connection, JUDGED, hour)


def add_alarm(
    store: Store, began: int, last: int, *, sent: float | None = 1.0, body: str = "{}", stream: str = "united"
) -> int:
    row = {
        "kind": "surge", "stream": stream, "topic": "*", "began": began, "last": last, "voices": 9, "expected": 1.0,
        "score": 0.0, "is_seen": False,
    }  # fmt: skip
    with store.transaction() as connection:
        number = connection.execute(ALARMS.insert().values(row)).inserted_primary_key[0]
        message = {"alarm": number, "channel": "webhook", "body": body, "due": 0.0, "tries": 1, "sent": sent}
        connection.execute(OUTBOX.insert().values(message))
    return int(number)


def values(store: Store, column: Any) -> list[Any]:
    with store.transaction() as connection:
        return list(connection.scalars(select(column).order_by(column)))


def clean_all(store: Store, kept: Retention = WEEK, now: float = NOW * HOUR) -> None:
    while clean(store, kept, now):
        pass


def test_texts_go_once_they_are_old_read_judged_and_of_no_open_alarm(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    old, new = NOW - 8 * DAY, NOW - 6 * DAY
    reader = WordReader()
    gone = [post(f"gone {at}", old - at) for at in range(5)]
    kept = [
        post("new", new),
        post("of an unsent message", old - 100),
        post("of an alarm that goes on", old - 200, "alaska"),
    ]
    keep([*gone, *kept, post("other stream", old - 100, "delta")], store, reader)
    store.add([post("not read", old)], [None])
    store.refuse("row", "no time", "a text")
    store.add([post("last", NOW)], [None])
    add_alarm(store, old - 100, old - 99, sent=None)
    add_alarm(store, old - 200, NOW - 3, stream="alaska")
    clean_all(store)  # nothing was judged yet
    assert store.counts()["texts"] == 11
    judged(store, old + 4 * DAY - 2)  # of hours from two before it texts may come late, or be copied
    clean_all(store)
    assert {f"gone {at}" for at in range(3)} <= set(values(store, TEXTS.c.name))
    judged(store)
    clean_all(store)
    assert values(store, TEXTS.c.name) == sorted(["last", "not read", *(each.name for each in kept)])
    counts = store.counts()
    assert (counts["texts"], counts["texts_waiting"], counts["refused"]) == (5, 2, 1)
    assert sum(values(store, VOICES.c.voices)) == 9  # the series stay
    assert keep(gone, store, reader)["known"] == 5  # sent again, they are not counted anew
    assert len(reader.read_texts) == 9
    assert store.add(gone, [None] * 5) == 0
    with store.transaction() as connection:
        connection.execute(REFUSED.update().values(stored=1.0))
        connection.execute(OUTBOX.update().values(sent=1.0))
        connection.execute(ALARMS.update().values(last=ALARMS.c.began))
    clean_all(store)
    assert values(store, TEXTS.c.name) == ["last", "new", "not read"]
    assert (values(store, REFUSED.c.name), set(values(store, OUTBOX.c.body))) == ([], {""})
    assert store.counts()["refused"] == 0
    clean_all(store, Retention())
    assert store.counts()["texts"] == 3


def test_hours_and_alarms_go_and_no_number_is_given_twice(store: Store) -> None:
    with store.transaction() as connection:
        for table, more in ((HOURS, {"topic": "*"}), (VOICES, {"topic": "delay", "sentiment": "negative"})):
            rows = [{"stream": "united", "hour": NOW - 70 * DAY + at, "voices": 1, **more} for at in range(70 * DAY)]
            connection.execute(table.insert(), rows)
    first = add_alarm(store, NOW - 70 * DAY, NOW - 70 * DAY)
    waits = add_alarm(store, NOW - 69 * DAY, NOW - 69 * DAY, sent=None)
    last = add_alarm(store, NOW - 68 * DAY, NOW - 68 * DAY)
    judged(store)
    clean_all(store)
    assert values(store, HOURS.c.hour)[0] == values(store, VOICES.c.hour)[0] == NOW - 63 * DAY
    assert values(store, ALARMS.c.id) == values(store, OUTBOX.c.alarm) == [waits, last]
    assert add_alarm(store, NOW, NOW) > last > waits > first
    judged(store, NOW - 10 * DAY)  # what is learned from of hours that are still to be judged stays
    clean_all(store, now=(NOW + 365 * DAY) * HOUR)
    assert values(store, HOURS.c.hour)[0] == NOW - (10 + 56 + 2) * DAY + 5 * DAY


def test_a_clock_that_jumps_ahead_deletes_nothing_for_an_hour(store: Store) -> None:
    keep([post("a", NOW - DAY), post("b", NOW)], store, WordReader())
    judged(store, NOW + 30 * DAY)
    clock, steady = [NOW * HOUR], [0.0]
    cleaner = Cleaner(store, WEEK, lambda: clock[0], lambda: steady[0])

    def later(ahead: float) -> int:
        clock[0] += CLEAN_EVERY + ahead
        steady[0] += CLEAN_EVERY
        while cleaner.tick():
            pass
        return store.counts()["texts"]

    assert later(0) == 2
    assert later(30 * DAY * HOUR) == 2
    assert later(-30 * DAY * HOUR) == 2  # it was set right
    assert later(30 * DAY * HOUR) == 2
    clock[0] += 60
    steady[0] += 60
    assert not cleaner.tick()
    assert later(0) == 1


def test_a_text_that_is_forgotten_stands_nowhere_and_is_still_counted(store: Store, tmp_path: Path) -> None:
    keep([post("id:1", NOW), post("id:2", NOW)], store, WordReader())
    number = views.latest_texts(store)[-1]["id"]
    body = {"sentence": "s", "texts": [{"id": number, "text": "bad delay id:1", "time": 1.0}, {"id": 77, "text": "b"}]}
    add_alarm(store, NOW, NOW, sent=None, body=json.dumps(body))
    store.refuse("row:1", "no time", "bad delay id:1")
    assert forget(store, "id:1")
    assert forget(store, "row:1")
    assert not forget(store, "row:1")
    assert store.counts() | {"alarms": 1} == store.counts()
    assert (store.counts()["texts"], store.counts()["refused"], sum(values(store, VOICES.c.voices))) == (2, 0, 2)
    assert [each["id"] for each in json.loads(values(store, OUTBOX.c.body)[0])["texts"]] == [77]
    assert keep([post("id:1", NOW)], store, WordReader())["new"] == 0
    with store.transaction() as connection:
        connection.execute(sqlalchemy.text("PRAGMA wal_checkpoint(TRUNCATE)"))
    there = b"".join(path.read_bytes() for path in tmp_path.glob("a.db*"))
    assert b"bad delay id:2" in there
    assert b"bad delay id:1" not in there


@pytest.mark.parametrize("wrong", [{"texts_days": 6}, {"series_days": 62}, {"texts_days": 0}, {"texts_days": "all"}])
def test_too_little_to_watch_by_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Retention.model_validate(wrong)
