"""Texts that come after their hour was judged, tables in another order than time, and times in which nothing was heard."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.applications.monitor import feeding, views
from peftlab.applications.monitor.application import Monitor
from peftlab.applications.monitor.baseline import fit_baseline
from peftlab.applications.monitor.building import HISTORY_NAME
from peftlab.applications.monitor.hours import by_clocks, heard_hours
from peftlab.applications.monitor.intake import keep
from peftlab.applications.monitor.opening import open_store
from peftlab.applications.monitor.rows import keep_hours
from peftlab.applications.monitor.settings import Destinations, Watch
from peftlab.applications.monitor.store import Post, Store
from peftlab.applications.monitor.tables import HOURS, OUTBOX, TEXTS
from peftlab.applications.monitor.times import HOUR, clock_hour, zone_of
from peftlab.applications.monitor.watcher import LATE_EVERY, Watcher, seed_history
from peftlab.core.application import Hosting, Workplace
from tests.applications.monitor.at_once import judge_late_at_once
from tests.applications.monitor.word_reader import WordReader
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow
START = 12_500 * 24  # hours since 1970, a midnight in 2004
SEND = Destinations.model_validate({"webhook": {"url": "http://127.0.0.1:9/hook"}})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(f"sqlite:///{tmp_path / 'a.db'}")
    hours = [("shop", topic, START - 240 + at, 4 + at % 3) for topic in ("*", "delay") for at in range(240)]
    seed_history(made, hours, START)
    return made


def watcher_of(store: Store) -> Watcher:
    return Watcher(store, Watch.model_validate({"topic_false_alarms_a_month": 0}), SEND, ["delay"], 0)


def say(store: Store, hour: int, count: int, name: str = "t", text: str | None = None) -> None:
    posts = [
        Post(f"{name}{hour}-{at}", text or f"bad {name}{at} of {hour} thing{at * at} delay", (hour + 0.01 * at) * HOUR, "shop")
        for at in range(count)
    ]  # fmt: skip
    keep(posts, store, WordReader())  # type: ignore[arg-type]


def counted(store: Store) -> dict[int, int]:
    with store.transaction() as connection:
        rows = connection.execute(HOURS.select().where(HOURS.c.topic == "*", HOURS.c.hour >= START)).all()
    return {row.hour: row.voices for row in rows}


def test_what_is_fetched_every_hour_is_judged_though_it_comes_after_the_hour(store: Store) -> None:
    """All texts of an hour come five minutes after its end, when it was judged as one without any."""
    watcher, alarms = watcher_of(store), 0
    for hour in range(START, START + 30):
        alarms += watcher.tick((hour + 1 + 5 / HOUR) * HOUR)  # the worker looks every few seconds
        say(store, hour, 40 if hour == START + 27 else 5)
        alarms += watcher.tick((hour + 1.1) * HOUR)
        alarms += watcher.tick((hour + 1.6) * HOUR)
    assert counted(store) == {hour: 40 if hour == START + 27 else 5 for hour in range(START, START + 30)}
    assert alarms == 1
    # With the hour after it, whose two hours together are as seldom, as it is where they come in time.
    assert [(alarm["began"], alarm["last"], alarm["voices"]) for alarm in views.alarms(store)] == [
        (START + 27, START + 28, 45)
    ]
    assert watcher_of(store).tick((START + 31.9) * HOUR) == 0  # nor after a restart


def test_late_texts_are_folded_and_counted_once_in_the_alarm_that_is_there(store: Store) -> None:
    watchers = [watcher_of(store) for _ in range(2)]
    say(store, START, 5)
    say(store, START + 1, 40)
    now = (START + 2.1) * HOUR
    assert watchers[0].tick(now) == 1
    say(store, START + 1, 30, "late")
    say(store, START + 1, 20, "copy", f"bad late3 of {START + 1} thing9 delay")
    assert watchers[0].tick(now + 60) == 0  # it is looked for every few minutes
    assert views.alarms(store)[0]["voices"] == 40
    for watcher in watchers:
        assert watcher.tick(now + LATE_EVERY) == 0
    assert counted(store) == {START: 5, START + 1: 70}
    assert [(alarm["began"], alarm["last"], alarm["voices"]) for alarm in views.alarms(store)] == [
        (START + 1, START + 1, 70)
    ]
    assert store.counts()["copies"] == 20
    assert views.series(store, "negative", "shop", 1).values["*"] == [70]
    with store.transaction() as connection:
        assert len(connection.execute(OUTBOX.select()).all()) == 1
        assert len(connection.execute(TEXTS.select().where(TEXTS.c.copy_of.is_not(None))).all()) == 20


def test_two_watchers_that_find_the_same_late_texts_count_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge_late_at_once(f"sqlite:///{tmp_path / 'a.db'}", monkeypatch) == (1, [(0, 45)], 9, [45])


@pytest.mark.parametrize(("gap", "days"), [(10 * 24, 1), (364 * 24, 4)])
def test_the_first_hours_after_a_time_in_which_nothing_was_heard_are_no_surge(
    store: Store, gap: int, days: int
) -> None:
    """Built on a table, and served days or a year later; then it is fed as before."""
    watcher = watcher_of(store)
    for day in range(days):
        for hour in range(START + gap + 24 * day, START + gap + 24 * day + 24):
            say(store, hour, 4 + hour % 3)
        assert watcher.tick((START + gap + 24 * day + 24.1) * HOUR) == 0, day
    say(store, START + gap + 24 * days, 40)
    assert watcher.tick((START + gap + 24 * days + 1.1) * HOUR) == 1  # and it is watched again


def test_silences_are_told_from_quiet_streams(store: Store) -> None:
    say(store, START, 1)
    say(store, START + 24, 1)  # 23 hours without any
    say(store, START + 49, 1)  # 24 hours
    with store.transaction() as connection:
        heard = heard_hours(connection, START - 48, START + 60)
        assert not heard_hours(connection, START + 50, START + 60).any()
    assert np.flatnonzero(~heard).tolist() == list(range(48 + 25, 48 + 49))
    other = {"topic": "*", "voices": 1, "stream": "rare"}
    with store.transaction() as connection:
        connection.execute(HOURS.delete())
        connection.execute(HOURS.insert(), [{**other, "hour": hour} for hour in range(START, START + 900, 30)])
        assert heard_hours(
            connection, START + 300, START + 700
        ).all()  # every thirty hours a text: that is how it always is


def test_hours_that_were_not_heard_say_nothing_of_what_is_usual() -> None:
    random = np.random.default_rng(0)
    course = 8 * (1 + 0.6 * np.sin(np.arange(42 * 24) % 24 / 24 * 2 * np.pi))
    counts, heard = random.poisson(course)[None].astype(float), np.ones(42 * 24, dtype=bool)
    heard[30 * 24 : 37 * 24 + 5] = False
    deaf = np.where(heard, counts, 0.0)
    whole, told, untold = (
        fit_baseline(counts, 0, discount=0.98),
        fit_baseline(deaf, 0, discount=0.98, heard=heard),
        fit_baseline(deaf, 0, discount=0.98),
    )
    assert told.profile == pytest.approx(whole.profile, abs=0.15)
    assert told.excess == pytest.approx(whole.excess, abs=0.1)
    assert told.level == pytest.approx(whole.level, rel=0.05)
    assert untold.excess > whole.excess + 0.5


def test_a_morning_stays_one_when_clocks_are_changed(tmp_path: Path) -> None:
    """A busy stream: its mornings rise within an hour, and clocks go ahead on 28 March 2004, or back on 31 October."""
    zone, random = zone_of("Europe/Berlin"), np.random.default_rng(0)
    for name, sunday in (("spring", datetime(2004, 3, 28, tzinfo=UTC)), ("autumn", datetime(2004, 10, 31, tzinfo=UTC))):
        first = int(sunday.timestamp()) // HOUR
        busy = [clock_hour(hour, zone) % 24 in range(7, 22) for hour in range(first - 21 * 24, first + 72)]
        counts = random.poisson([100.0 if is_busy else 20.0 for is_busy in busy])
        began = {}
        for named in ("UTC", "Europe/Berlin"):
            store = Store(f"sqlite:///{tmp_path / name}-{named.replace('/', '-')}.db")
            hours = [("shop", "*", first - 21 * 24 + at, int(count)) for at, count in enumerate(counts)]
            with store.transaction() as connection:
                keep_hours(
                    connection, [dict(zip(("stream", "topic", "hour", "voices"), row, strict=True)) for row in hours]
                )
            watcher = Watcher(
                store, Watch.model_validate({"zone": named, "topic_false_alarms_a_month": 0}), SEND, [], 0
            )
            with store.transaction() as connection:
                began[named] = sum(
                    len(watcher._surges(connection, watcher._detectors(first + day), "shop", first + day + 24))
                    for day in (24, 48)
                )
        assert began["UTC"] >= 2, name
        assert began["Europe/Berlin"] == 0, name
    assert heard_by_clocks(zone, datetime(2004, 3, 28, tzinfo=UTC)) == (49, [25])  # two o'clock
    assert heard_by_clocks(zone, datetime(2004, 10, 31, tzinfo=UTC)) == (47, [])
    assert heard_by_clocks(zone_of("UTC"), datetime(2004, 3, 28, tzinfo=UTC)) == (48, [])
    assert clock_hour(0, zone_of("Asia/Kolkata")) == 5
    with pytest.raises(ValueError, match="there is no zone 'Europe/Berlim'"):
        Watch.model_validate({"zone": "Europe/Berlim"})


def heard_by_clocks(zone: tzinfo, day: datetime) -> tuple[int, list[int]]:
    """Of the day and the one before it: how many hours there are by clocks, and which were not heard."""
    start = int(day.timestamp()) // HOUR - 24
    counts = np.arange(48.0)[None]
    first, moved, heard = by_clocks(counts, np.ones(48, dtype=bool), start, zone)
    assert first == clock_hour(start, zone)
    assert moved[0, :24].tolist() == counts[0, :24].tolist()
    assert moved[0, -1] == 47
    return moved.shape[1], np.flatnonzero(~heard).tolist()


def test_lines_of_a_slow_stream_are_stored_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor.model_validate(
        {"name": "opinion", "sentiment": {"run": "a"}, "topic": {"run": "b"}, "posts": {"source": "x.csv"}}
    )
    (tmp_path / HISTORY_NAME).write_text(json.dumps({"topics": ["delay"], "until": START, "hours": []}))
    place, hosting = Workplace(tmp_path, {}), Hosting(f"sqlite:///{tmp_path / 'a.db'}")
    store = open_store(place, hosting)
    monkeypatch.setattr(feeding, "open_reader", lambda _: WordReader())
    monkeypatch.setattr(feeding, "PAUSE", 0.05)
    monkeypatch.setattr(feeding, "MOST_LINES_KNOWN", 3)
    gate, pipe = os.pipe()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=os.fdopen(gate, "rb")))
    with ThreadPoolExecutor(1) as pool, os.fdopen(pipe, "wb", buffering=0) as source:
        told = pool.submit(monitor.feed, place, hosting, ["-"])
        source.write(b'{"text": "bad bag", "time": 1080000000}\n' * 2 + b"no JSON\n")
        deadline = time.monotonic() + PATIENCE
        while (store.counts()["texts"], store.counts()["refused"]) != (2, 1) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (store.counts()["texts"], store.counts()["refused"]) == (2, 1)  # though more may come
        source.write(b"".join(b'{"text": "bad %d", "time": 1080000000}\n' % at for at in range(70)))
        source.close()
        assert told.result(PATIENCE) == {"read": 72, "new": 72, "known": 0, "refused": 1}


def test_a_table_is_fed_in_the_order_of_time_while_a_server_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = Monitor.model_validate(
        {"name": "opinion", "sentiment": {"run": "a"}, "topic": {"run": "b"}, "posts": {"source": "x.csv"}}
    )
    hours = [("all", "*", START - 240 + at, 2) for at in range(240)]
    (tmp_path / HISTORY_NAME).write_text(json.dumps({"topics": ["delay"], "until": START, "hours": hours}))
    place, hosting = Workplace(tmp_path, {}), Hosting(f"sqlite:///{tmp_path / 'a.db'}")
    store = open_store(place, hosting)
    server = watcher_of(store)

    def keep_and_judge(posts: Sequence[Post], *rest: object) -> dict[str, int]:
        found = keep(posts, *rest)  # type: ignore[arg-type]
        server.tick(1.2e9)
        return found

    monkeypatch.setattr(feeding, "open_reader", lambda _: WordReader())
    monkeypatch.setattr(feeding, "keep", keep_and_judge)
    rows = [
        {"text": f"bad {at} of {hour} thing{at * at} delay", "time": (hour + 0.1 * at) * HOUR}
        for hour in range(START + 120, START - 1, -1) for at in range(2)
    ]  # fmt: skip
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert monitor.feed(place, hosting, [str(tmp_path / "new.jsonl")])["new"] == 242
    assert counted(store) == dict.fromkeys(range(START, START + 120), 2)
