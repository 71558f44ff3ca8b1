"""Large stores, and two processes at one, on SQLite; test_on_postgresql has the like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from peftlab.applications.monitor import views
from peftlab.applications.monitor.reader import Reading
from peftlab.applications.monitor.store import Post, Store
from peftlab.applications.monitor.tables import TEXTS
from peftlab.applications.monitor.times import HOUR
from tests.applications.monitor.at_once import judge_at_once, open_at_once
from tests.applications.monitor.questions import NOW, ask, fill

pytestmark = pytest.mark.slow
STEPS = 10


def steps_of(store: Store) -> int:
    """Instructions of SQLite's machine for all that is asked, to within ten."""
    done = [0]

    def count() -> None:
        done[0] += STEPS

    def watch(connection: Any) -> None:
        connection.connection.dbapi_connection.set_progress_handler(count, STEPS)

    engine = store._database.engine
    sqlalchemy.event.listen(engine, "begin", watch)
    ask(store)
    sqlalchemy.event.remove(engine, "begin", watch)
    return done[0]


def test_a_page_of_a_large_store_costs_as_much_as_that_of_a_small_one(tmp_path: Path) -> None:
    small, large = (Store(f"sqlite:///{tmp_path / name}.db") for name in ("small", "large"))
    counts = fill(small, days=8, an_hour=4), fill(large, days=40, an_hour=16)
    assert counts[1] > 19 * counts[0]
    assert ask(large) == {
        "streams": ["one", "two"],
        "series": [8, 8, 8, 8, 8],
        "alarms": 20,
        "texts": 20,
        "all texts": 20,
        "of no topic": 0,
        "of no sentiment": 0,
        "counts": {
            "texts": counts[1], "texts_waiting": 0, "copies": counts[1] // 4, "refused": 400, "alarms": 80,
            "messages_waiting": 0,
        },
        "refused": 50,
        "waiting": [],
        "behind an alarm": 16,
        "proposals": [],
        "sent": 0,
        "began": 0,
    }  # fmt: skip
    # A little more: the texts behind an alarm are its own, and the alarms are counted one by one.
    assert steps_of(large) < 1.5 * steps_of(small)


def test_voices_are_written_down_as_texts_are_read_once(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    bad, good = Reading("negative", 0.9, "delay", 0.9), Reading("positive", 0.9, "crew", 0.9)
    posts = [Post(f"t{at}", f"text {at}", NOW * HOUR + at, "one") for at in range(6)]
    assert store.add([*posts[:3], posts[0]], [bad, bad, good, good]) == 3
    assert store.add(posts, [bad, bad, good, None, None, bad]) == 3
    waiting = [number for number, _ in store.waiting(9)]
    store.keep_readings(waiting, [bad, good])
    store.keep_readings(waiting[::-1], [bad, bad])  # another process, which read the same ones
    shown = views.series(store, "negative", "one", 1)
    assert (shown.start, shown.values) == (NOW, {"*": [4], "delay": [4]})
    assert views.series(store, "positive", "one", 1).values == {"*": [2], "crew": [2]}
    store.refuse("r", "no text", "{}")
    store.refuse("r", "no text", "{}")
    again = Store(f"sqlite:///{tmp_path / 'a.db'}")
    counts = again.counts()
    assert (counts["texts"], counts["texts_waiting"], counts["refused"]) == (6, 0, 1)
    with again.transaction() as connection:
        read = connection.scalars(sqlalchemy.select(TEXTS.c.sentiment).order_by(TEXTS.c.name)).all()
    assert read == ["negative", "negative", "positive", "negative", "positive", "negative"]


def test_two_watchers_that_judge_an_hour_at_once_count_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge_at_once(f"sqlite:///{tmp_path / 'a.db'}", monkeypatch) == (1, [(217, 40)])


def test_several_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    for at in range(5):
        open_at_once(f"sqlite:///{tmp_path / str(at)}.db")
