"""Processes that do the same at one database at the same moment."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from peftlab.applications.monitor import views
from peftlab.applications.monitor.reader import Reading
from peftlab.applications.monitor.settings import Destinations, Watch
from peftlab.applications.monitor.store import Post, Store
from peftlab.applications.monitor.watcher import LATE_EVERY, Watcher, seed_history


def judge_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[tuple[int, int]]]:
    """How many alarms of the hour 217 with 40 voices began, and the hour and voices of those that are there."""
    start = 4 * 24
    store = Store(url)
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
    watchers = [Watcher(Store(url), watch, Destinations(), ["delay"], 0) for _ in range(2)]

    def tick(watcher: Watcher) -> int:
        both.wait()
        return watcher.tick(1e9)

    with ThreadPoolExecutor(2) as threads:
        began = sum(threads.map(tick, watchers))
    return began, [(alarm["began"], alarm["voices"]) for alarm in views.alarms(store)]


def judge_late_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[tuple[int, int]], int, list[int]]:
    """Two find the same 40 late texts and 9 copies: alarms that began, their hours and voices, copies, voices by hour."""
    start, now, reading = 12_500 * 24, (12_500 * 24 + 2.1) * 3600, Reading("negative", 0.9, "delay", 0.8)
    store = Store(url)
    seed_history(store, [("shop", "*", start - 240 + hour, 4 + hour % 3) for hour in range(240)], start)
    watch = Watch.model_validate({"topic_false_alarms_a_month": 0})
    watcher, other = (Watcher(Store(url), watch, Destinations(), ["delay"], 0) for _ in range(2))

    def say(name: str, texts: list[str]) -> None:
        posts = [Post(f"{name}{at}", text, start * 3600.0 + at, "shop") for at, text in enumerate(texts)]
        store.add(posts, [reading] * len(posts))

    say("early", [f"soon {at} times {at * at} delayed{at}" for at in range(5)])
    watcher.tick(now)
    say("late", [f"late {at} times {at * at} again{at}" for at in range(40)])
    say("copy", ["late 3 times 9 again3"] * 9)
    count, began = Watcher._count, 0

    def count_both(self: Watcher, *given: Any) -> Any:
        nonlocal began
        found = count(self, *given)
        monkeypatch.setattr(Watcher, "_count", count)
        began = other.tick(now + LATE_EVERY)  # meanwhile the other one is done with the same hour
        return found

    monkeypatch.setattr(Watcher, "_count", count_both)
    mine = watcher.tick(now + LATE_EVERY)
    alarms = [(alarm["began"] - start, alarm["voices"]) for alarm in views.alarms(store)]
    return began + mine, alarms, store.counts()["copies"], views.series(store, "negative", "shop", 1).values["*"]


def open_at_once(url: str, count: int = 6) -> None:
    """Several processes open a database in which nothing is yet."""
    start = threading.Barrier(count)

    def open_one(_: int) -> int:
        start.wait()
        store = Store(url)
        seed_history(store, [("shop", "*", 100, 4)], 101)
        return store.counts()["texts"]

    with ThreadPoolExecutor(count) as threads:
        assert list(threads.map(open_one, range(count))) == [0] * count
    assert views.series(Store(url), "negative", "shop", 1).values == {"*": [4]}
