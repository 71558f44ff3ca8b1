"""The databases of the applications on a real PostgreSQL, started here; left out where none is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text

from peftlab.applications.monitor.store import Post
from peftlab.applications.monitor.store import Store as MonitorStore
from peftlab.applications.recommend.store import Event
from peftlab.applications.recommend.store import Store as RecommendStore
from peftlab.applications.support.answering import Reply
from peftlab.applications.support.storage import Storage
from peftlab.applications.support.turns import Kind
from peftlab.core.errors import UserError
from tests.applications.monitor import questions, test_monitor_retention
from tests.applications.monitor.at_once import judge_at_once, judge_late_at_once, open_at_once

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARIES, reason="postgresql is not installed (apt-get install postgresql)"),
]


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
    storage.answer(session.id, number, [Reply(Kind.HANDED, "later", "parcel", reason="unsure")], "summary", 0.1)
    assert [row.text for row in storage.messages(session.id)] == ["where is my parcel 📦", "later"]
    assert [row["summary"] for row in storage.overview.queue()] == ["summary"]
    _, is_correction = storage.reply(session.id, "It comes.", None, was_wrong=True)
    assert [row["text"] for row in storage.training_rows()] == ["parcel", "It comes."]
    assert storage.overview.figures()["corrected_as_wrong"] == int(is_correction) == 0, (
        "what was handed over is not wrong"
    )
    number, _ = storage.accept(session.id, "key-2", "and my refund")
    (given,) = storage.answer(session.id, number, [Reply(Kind.ENTRY, "In your account.", "refund")], "", 0.1)
    storage.rate(session.id, given.id, helped=False)
    assert storage.reply(session.id, "Tomorrow.", None, was_wrong=True)[1]
    figures = storage.overview.figures()
    assert (figures["corrected_as_wrong"], figures["share_wrong"], figures["did_not_help"]) == (1, 1.0, 1)
    assert [each.kind for each in storage.past(session.id, 10**6).exchanges] == [
        Kind.HANDED, Kind.AGENT, Kind.ENTRY, Kind.AGENT
    ]  # fmt: skip
    with pytest.raises(UserError, match="cannot hold this"):
        storage.accept(session.id, "key-3", "half \x00 text")
    assert len(storage.messages(session.id)) == 6
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
    assert judge_at_once(database("watchers"), monkeypatch) == (1, [(217, 40)])


def test_several_processes_may_open_a_new_database_at_once(database: Callable[[str], str]) -> None:
    for at in range(3):
        open_at_once(database(f"new_{at}"))


def test_a_page_of_a_large_monitor_reads_as_few_rows_as_that_of_a_small_one(database: Callable[[str], str]) -> None:
    read = {}
    for name, size in (("small", {"days": 8, "an_hour": 4}), ("large", {"days": 40, "an_hour": 16})):
        store = MonitorStore(database(f"monitor_{name}"))
        questions.fill(store, **size)
        engine = store._database.engine
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        asked: list[tuple[str, Any]] = []

        def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any, asked: Any = asked) -> None:
            asked.append((statement, parameters))

        event.listen(engine, "before_cursor_execute", note)
        answers = questions.ask(store)
        event.remove(engine, "before_cursor_execute", note)
        with engine.begin() as connection:
            plans = [
                connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
                for statement, parameters in asked
                if statement.lstrip().startswith(("SELECT", "WITH"))
            ]
        assert len(plans) > 20
        read[name] = sum(rows_of(plan[0]["Plan"]) for plan in plans)
    assert (answers["counts"]["texts"], answers["series"]) == (2 * 40 * 24 * 16, [8] * 5)
    # The texts behind an alarm are its own, and the alarms are counted one by one.
    assert read["large"] - read["small"] < 200, read


def rows_of(plan: dict[str, Any]) -> float:
    """Rows that the leaves of a plan have read, those that a filter threw away included."""
    below = plan.get("Plans", [])
    if any("Parent Relationship" in each and each["Parent Relationship"] != "InitPlan" for each in below):
        return sum(map(rows_of, below))
    own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return float(own + sum(map(rows_of, below)))


def test_late_texts_are_judged_once(database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge_late_at_once(database("late"), monkeypatch) == (1, [(0, 45)], 9, [45])


def test_a_monitor_forgets_what_is_old(database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    texts, hours = (MonitorStore(database(f"retention_{name}")) for name in ("texts", "hours"))
    test_monitor_retention.test_texts_go_once_they_are_old_read_judged_and_of_no_open_alarm(texts, monkeypatch)
    test_monitor_retention.test_hours_and_alarms_go_and_no_number_is_given_twice(hours)
