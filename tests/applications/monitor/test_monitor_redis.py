"""Redis streams: workers share the texts, one that dies loses none, and a restarted server goes on."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peftlab.applications.monitor.intake import keep
from peftlab.applications.monitor.redis_stream import GROUP, _keep, _next, work
from peftlab.applications.monitor.store import Store
from peftlab.core.errors import UserError
from peftlab.core.reporter import Silent
from tests.applications.monitor.word_reader import WordReader
from tests.patience import PATIENCE
from tests.ports import free_port

redis: Any = pytest.importorskip("redis", reason="the package redis is not installed")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


class Server:
    """A redis-server that keeps what it has accepted."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        self.start()

    def start(self) -> None:
        options = f"--port {self.port} --bind 127.0.0.1 --dir {self.folder} --appendonly yes --appendfsync always"
        self.process = subprocess.Popen(
            ["redis-server", *options.split(), "--save", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.client.close()
    made.kill()


def fill(server: Server, count: int) -> None:
    for at in range(count):
        server.client.xadd("posts", {"text": f"bad {at} delay", "time": "1e9", "stream": "united", "id": f"p{at}"})


def test_workers_share_a_stream_and_what_one_left_behind_is_counted_once(server: Server, tmp_path: Path) -> None:
    fill(server, 150)
    server.client.xadd("posts", {"text": "bad time", "time": "whenever"})
    server.client.xadd("posts", {"text": "bad 3 delay", "time": "1e9", "stream": "united", "id": "p3"})  # sent again
    store, address = Store(f"sqlite:///{tmp_path / 'a.db'}"), f"{server.url}/posts"
    server.client.xgroup_create("posts", GROUP, id="0")
    # One worker dies after it has stored its texts, another before: neither has acknowledged.
    stored = _next(server.client, "posts", "dies-late", 30_000)
    _keep(stored, "posts", store, WordReader())
    assert _next(server.client, "posts", "dies-early", 30_000)
    told: list[Any] = []
    workers = [
        threading.Thread(
            target=lambda: told.append(work(address, store, WordReader(), Silent(), most=10_000, claim_ms=0))
        )
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    counts = store.counts()
    assert (counts["texts"], counts["refused"]) == (150, 1)
    assert server.client.xpending("posts", GROUP)["pending"] == 0
    assert sum(each["known"] for each in told) >= 64


def test_bytes_that_are_no_text_end_no_worker(server: Server, tmp_path: Path) -> None:
    raw = redis.Redis.from_url(server.url)
    raw.xadd("posts", {"text": b"bad \xff\xfe delay", "time": "1e9"})
    raw.close()
    fill(server, 1)
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    assert work(f"{server.url}/posts", store, WordReader(), Silent(), most=2)["new"] == 2


def test_a_killed_server_is_waited_for_and_has_lost_nothing(server: Server, tmp_path: Path) -> None:
    fill(server, 30)
    server.kill()
    threading.Timer(0.3, server.start).start()
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    told = work(f"{server.url}/posts", store, WordReader(), Silent(), most=30)
    assert told["new"] == 30
    with pytest.raises(UserError, match="names no stream"):
        work(server.url, store, WordReader(), Silent())
    assert keep([], store, WordReader())["new"] == 0


def test_a_server_that_takes_nothing_for_a_while_ends_no_worker(server: Server, tmp_path: Path) -> None:
    fill(server, 3)
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    server.client.replicaof("127.0.0.1", 1)  # as while another server takes over: it may only be read
    threading.Timer(0.3, lambda: server.client.replicaof("no", "one")).start()
    assert work(f"{server.url}/posts", store, WordReader(), Silent(), most=3)["new"] == 3
    fill(server, 4)
    server.client.config_set("min-replicas-to-write", 1)
    threading.Timer(0.3, lambda: server.client.config_set("min-replicas-to-write", 0)).start()
    assert work(f"{server.url}/posts", store, WordReader(), Silent(), most=4)["new"] == 1
    server.client.set("text", "no stream")
    with pytest.raises(UserError, match="Redis refused: WRONGTYPE"):
        work(f"{server.url}/text", store, WordReader(), Silent(), most=1)
    with pytest.raises(UserError, match="Redis refused: invalid username-password pair"):
        work(f"redis://me:wrong@127.0.0.1:{server.port}/0/posts", store, WordReader(), Silent(), most=1)


@pytest.mark.parametrize(
    "address",
    [
        "redis://me:secret@localhost:6379/posts", "redis://:secret@localhost:6379/0/", "redis://:secret@h:99999/0/posts",
        "redis://:secret@h:no/0/posts", "redis://:secret@h:1/0/posts?socket_timeout=soon&password=secret",
    ],
)  # fmt: skip
def test_a_wrong_address_is_told_without_its_password(address: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        work(address, Store(f"sqlite:///{tmp_path / 'a.db'}"), WordReader(), Silent(), most=1)
    assert "secret" not in str(told.value)
