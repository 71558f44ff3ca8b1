"""The databases of the applications on a real PostgreSQL, started here; left out where none is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from peftlab.applications.monitor import views
from peftlab.applications.monitor.reader import Reading
from peftlab.applications.monitor.settings import Destinations, Watch
from peftlab.applications.monitor.store import Post
from peftlab.applications.monitor.store import Store as MonitorStore
from peftlab.applications.monitor.watcher import Watcher, seed_history
from peftlab.applications.recommend.store import Event
from peftlab.applications.recommend.store import Store as RecommendStore
from peftlab.applications.support.answering import Reply
from peftlab.applications.support.storage import Storage
from peftlab.applications.support.turns import Kind
from peftlab.core.errors import UserError

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = pytest.mark.skipif(not BINARIES, reason="postgresql is not installed (apt-get install postgresql)")


@pytest.fixture(scope="module")
def database() -> Iterator[Callable[[str], str]]:
    """Makes an empty database, and gives its address."""
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path must be short
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to be run by root
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def call(name: str, *arguments: str) -> None:
        command = [*as_user, str(BINARIES[-1].with_name(name)), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    try:
        call("initdb", "-A", "trust", "-N", "-U", "postgres")
        call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")

        def make(name: str) -> str:
            address = f"postgresql+psycopg://postgres@/{{}}?host={folder}"
            engine = create_engine(address.format("postgres"), isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            engine.dispose()
            return address.format(name)

        yield make
        call("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_conversations(database: Callable[[str], str]) -> None:
    url = database("support")
    storage = Storage(url)
    session = storage.start()
    number, is_new = storage.accept(session.id, "key-1", "where is my parcel 📦")
    assert is_new
    assert storage.accept(session.id, "key-1", "again") == (number, False)
    storage.answer(session.id, number, Reply(Kind.HANDED, "later", "parcel", reason="unsure"), "summary", 0.1)
    assert [row.text for row in storage.messages(session.id)] == ["where is my parcel 📦", "later"]
    assert [row["summary"] for row in storage.queue()] == ["summary"]
    storage.reply(session.id, "It comes.", None, was_wrong=True)
    assert [row["text"] for row in storage.training_rows()] == ["parcel", "It comes."]
    assert storage.figures()["corrected_as_wrong"] == 1
    with pytest.raises(UserError, match="cannot hold this"):
        storage.accept(session.id, "key-2", "half \x00 text")
    assert len(storage.messages(session.id)) == 3
    assert Storage(url).find(session.cookie) is not None
    with pytest.raises(UserError, match="holds support, version"):
        MonitorStore(url)


def test_texts_and_events_count_once(database: Callable[[str], str]) -> None:
    monitor, recommend = MonitorStore(database("monitor")), RecommendStore(database("recommend"))
    posts = [Post(f"t{at}", f"bad {at}", time.time(), "shop") for at in range(3)]
    assert [monitor.add(posts, [None] * 3), monitor.add(posts, [None] * 3)] == [3, 0]
    assert monitor.counts()["texts"] == 3
    events = [Event("a", "u", "i", 1.5e9), Event("b", "u", "j", 1.6e9)]
    assert [recommend.add(events), recommend.add(events)] == [2, 0]
    assert recommend.items_of("u") == [("i", 1.5e9), ("j", 1.6e9)]


def test_two_watchers_that_judge_an_hour_at_once_count_it_once(
    database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, start = database("watchers"), 4 * 24
    store = MonitorStore(url)
    seed_history(store, [("shop", "*", start + hour, 4 + hour % 3) for hour in range(120)], start + 120)
    reading, hour = Reading("negative", 0.9, "delay", 0.8), start + 121
    posts = [Post(f"t{at}", f"late {at} times {at * at} again{at}", hour * 3600.0 + at, "shop") for at in range(40)]
    posts.append(Post("end", "late at last", (start + 123) * 3600.0, "shop"))
    store.add(posts, [reading] * len(posts))
    both, judge = threading.Barrier(2), Watcher._judge

    def judge_slowly(*given: Any) -> int:
        found = judge(*given)
        time.sleep(1.0)  # before the transaction ends, the other one asks whether the hour is judged
        return found

    monkeypatch.setattr(Watcher, "_judge", judge_slowly)
    watch = Watch.model_validate({"topic_false_alarms_a_month": 0})
    watchers = [Watcher(MonitorStore(url), watch, Destinations(), ["delay"], 0) for _ in range(2)]

    def tick(watcher: Watcher) -> int:
        both.wait()
        return watcher.tick(1e9)

    with ThreadPoolExecutor(2) as threads:
        began = list(threads.map(tick, watchers))
    assert sum(began) == 1
    (alarm,) = views.alarms(store)
    assert (alarm["began"], alarm["voices"]) == (hour, 40)
