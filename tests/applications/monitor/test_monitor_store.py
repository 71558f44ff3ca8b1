"""Texts, hours, alarms and messages in a database, with a reader that knows words and no model."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy
from sqlalchemy import select

from peftlab.applications.monitor import outbox, views
from peftlab.applications.monitor.intake import keep, read_post
from peftlab.applications.monitor.posts import digest_of
from peftlab.applications.monitor.reader import Reading
from peftlab.applications.monitor.retention import Cleaner
from peftlab.applications.monitor.settings import Destinations, Posts, Retention, Watch
from peftlab.applications.monitor.store import Post, Store
from peftlab.applications.monitor.tables import ALARMS, HOURS, OUTBOX, TEXTS
from peftlab.applications.monitor.times import HOUR, hour_of, hour_of_week, read_time
from peftlab.applications.monitor.voices import fold
from peftlab.applications.monitor.watcher import Watcher, seed_history
from peftlab.applications.monitor.work import Worker
from peftlab.assembly.database import StorageError
from peftlab.core.errors import DataError, UserError
from peftlab.core.reporter import Silent
from tests.applications.monitor.word_reader import WordReader
from tests.patience import PATIENCE

MONDAY = 4 * 24  # hours since 1970: the fifth of January
WATCH = Watch.model_validate({"topic_false_alarms_a_month": 0})
POSTS = Posts.model_validate({"source": "x.csv", "stream": "airline"})
NOW = 1e9
WORDS = ("delay", "lost", "rude", "seat", "gate", "crew", "late", "bag", "wifi", "phone", "food", "price")


def post(name: str, hour: float, text: str = "bad thing delay", stream: str = "united") -> Post:
    return Post(name, text, hour * HOUR, stream)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'a.db'}")


def rows(store: Store, table: sqlalchemy.Table) -> list[Any]:
    with store.transaction() as connection:
        return list(connection.execute(select(table)).all())


def test_times_are_read_or_refused_with_their_place() -> None:
    for given in (
        "2001-09-09T01:46:40Z",
        "2001-09-09 03:46:40+02:00",
        1e9,
        "1000000000000",
        "Sun, 09 Sep 2001 01:46:40 GMT",
    ):
        assert read_time(given, now=NOW) == NOW
    for given, message in (
        ("yesterday", "cannot be read"), ("", "cannot be read"), (None, "cannot be read"), (True, "cannot be read"),
        ("nan", "cannot be read"), (NOW + 3600, "in the future"), ("1970-01-01", "before 1990"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message) as caught:
            read_time(given, now=NOW, where="tweets.csv, row 7")
        assert "row 7" in str(caught.value)
    assert hour_of_week(hour_of(NOW)) == 6 * 24 + 1  # a Sunday
    with pytest.raises(DataError, match="no text"):
        read_post({"text": " ", "time": NOW}, POSTS, name="a", where="row 1", now=NOW)
    with pytest.raises(DataError, match="no time"):
        read_post({"text": "a"}, POSTS, name="a", where="row 1", now=NOW)


def test_a_text_is_stored_and_read_once(store: Store) -> None:
    reader = WordReader()
    posts = [post(f"t{at}", MONDAY, f"bad {word}") for at, word in enumerate(WORDS[:3])]
    assert keep([*posts, posts[0]], store, reader) == {"read": 4, "new": 3, "known": 1}
    assert keep(posts, store, reader)["new"] == 0
    assert len(reader.read_texts) == 3
    assert store.add([post("later", MONDAY)], [None]) == 1
    waiting = store.waiting(10)
    assert [text for _, text in waiting] == ["bad thing delay"]
    store.keep_readings([waiting[0][0]], reader.read([waiting[0][1]]))
    assert store.counts()["texts_waiting"] == 0
    assert store.counts()["texts"] == 4


def test_characters_that_no_database_takes_refuse_nothing_else(store: Store) -> None:
    given = {
        "id": "\ud83d",
        "text": "bad half \ud83d of a sign\0",
        "time": MONDAY * HOUR + 1e9,
        "airline": "united\udc00",
    }
    odd = read_post(given, POSTS, name="a", where="row 1", now=2e9)
    assert odd.text == "bad half ? of a sign "  # tokenizers do not take it either
    for nothing in ("\0", None, 7):
        with pytest.raises(DataError, match="no text"):
            read_post({**given, "text": nothing}, POSTS, name="a", where="row 1", now=2e9)
    for new in (2, 0):
        assert keep([odd, post("plain", MONDAY)], store, WordReader())["new"] == new
    assert {(row.name, row.stream) for row in rows(store, TEXTS)} == {("id:?", "united?"), ("plain", "united")}
    store.refuse("row\ud83d", "because", '"\ud83d"')
    assert views.refused(store)[0]["given"] == '"?"'
    assert digest_of("\ud83d") != digest_of("?")


def test_a_fault_of_the_model_is_told_and_ends_no_thread(store: Store) -> None:
    class Failing(WordReader):
        faults = 1

        def read(self, texts: Sequence[str]) -> list[Reading]:
            if self.faults:
                self.faults -= 1
                raise RuntimeError(f"out of memory at {texts[0]}")
            return super().read(texts)

    class Lines(Silent):
        said: ClassVar[list[str]] = []

        def say(self, line: str) -> None:
            self.said.append(line)

    watcher, cleaner = Watcher(store, WATCH, Destinations(), ["delay"], 0), Cleaner(store, Retention())
    worker = Worker(store, Failing(), watcher, Destinations(), Lines(), cleaner)  # type: ignore[arg-type]
    store.add([post("a", MONDAY)], [None])
    worker.start()
    deadline = time.monotonic() + PATIENCE
    while store.counts()["texts_waiting"] and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.stop()
    assert store.counts()["texts_waiting"] == 0
    assert Lines.said == ["trying again: a fault, RuntimeError"]


def test_copies_are_one_voice() -> None:
    texts = [
        "they lost my bag again and nobody answers the phone at all",
        "RT @someone: they lost my bag again and nobody answers the phone at all http://t.co/x1",
        "the crew was kind",
        "“They lost my bag again and nobody answers the phone at all”",
    ]
    assert fold([], texts) == [None, 0, None, 0]
    assert fold(texts[:1], texts[1:3]) == [0, None]


def usual(days: int) -> list[tuple[str, str, int, int]]:
    """Five voices an hour, a little more or less."""
    return [("united", topic, MONDAY + hour, 4 + hour % 3) for topic in ("*", "delay") for hour in range(days * 24)]


def surge_store(store: Store, send: Destinations) -> Watcher:
    seed_history(store, usual(5), MONDAY + 120)
    reader = WordReader()
    for hour in range(4):
        count = 40 if hour == 2 else 5
        texts = [
            post(
                f"{hour}-{at}", MONDAY + 120 + hour + 0.01 * at, f"bad {at} of {WORDS[at % 12]} {hour} number{at} delay"
            )
            for at in range(count)
        ]
        keep(texts, store, reader)
    copies = [post(f"copy{at}", MONDAY + 121.5, "bad 0 of delay 1 number0 delay") for at in range(60)]
    keep(copies, store, reader)
    keep([post("end", MONDAY + 124)], store, reader)
    return Watcher(store, WATCH, send, ["delay"], 0)


def test_a_surge_raises_one_alarm_with_its_voices_and_copies_none(store: Store) -> None:
    send = Destinations.model_validate({"webhook": {"url": "http://127.0.0.1:9/hook"}})
    watcher = surge_store(store, send)
    assert watcher.tick(NOW) == 1
    assert watcher.tick(NOW) == 0
    alarm = rows(store, ALARMS)[0]
    assert (alarm.stream, alarm.topic, alarm.began) == ("united", "*", MONDAY + 122)
    assert alarm.voices >= 40
    counted = {row.hour: row.voices for row in rows(store, HOURS) if row.topic == "*"}
    assert counted[MONDAY + 121] == 5
    shown = views.alarms(store)[0]
    texts = views.alarm_texts(store, shown, "negative")
    assert len([text for text in texts if text["time"] >= (MONDAY + 122) * HOUR]) >= 40
    assert max(text["copies"] for text in texts) == 60
    body = json.loads(rows(store, OUTBOX)[0].body)
    assert body["alarm"] == alarm.id
    assert len(body["texts"]) == 20
    assert "40 negative voices" in body["sentence"]
    again = Watcher(store, WATCH, send, ["delay"], 0)
    assert again.tick(NOW) == 0
    assert views.series(store, "negative", "united", 8).values["*"][-3] == 40
    assert "svg" in views.draw_series(views.series(store, "negative", "united", 48), "united")


def test_a_clock_that_was_a_year_ahead_does_not_end_the_watch(store: Store) -> None:
    seed_history(store, usual(5), MONDAY + 120)
    keep([post("early", MONDAY + 120 + 365 * 24)], store, WordReader())  # got its time from the wrong clock
    watcher = Watcher(store, WATCH, Destinations(), ["delay"], 0)
    watcher.tick((MONDAY + 121 + 365 * 24) * HOUR)
    texts = [f"bad {at} of {WORDS[at % 12]} number{at} delay" for at in range(40)]
    keep([post(str(at), MONDAY + 121, text) for at, text in enumerate(texts)], store, WordReader())
    assert watcher.tick((MONDAY + 121.5) * HOUR) == 0  # the hour is not over
    assert Watcher(store, WATCH, Destinations(), ["delay"], 0).tick((MONDAY + 122.1) * HOUR) == 1
    assert views.alarms(store)[0]["began"] == MONDAY + 121


def test_a_failing_transaction_leaves_the_hour_to_be_judged_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = surge_store(store, Destinations())
    with monkeypatch.context() as patch:
        patch.setattr(
            "peftlab.applications.monitor.alarms.message", lambda *_: (_ for _ in ()).throw(RuntimeError("killed"))
        )
        with pytest.raises(RuntimeError, match="killed"):
            watcher.tick(NOW)
    assert not rows(store, ALARMS)
    assert all(row.hour < MONDAY + 120 for row in rows(store, HOURS))
    assert not [row for row in rows(store, TEXTS) if row.copy_of is not None]
    assert watcher.tick(NOW) == 1


@contextmanager
def hook(answers: list[int]) -> Iterator[tuple[str, list[tuple[dict[str, str], str]]]]:
    got: list[tuple[dict[str, str], str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.append((dict(self.headers), body))
            self.send_response(answers.pop(0))
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook_is_signed_and_tried_until_it_is_taken(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with hook([500, 302, 200]) as (url, got):
        send = Destinations.model_validate({"webhook": {"url": url}})
        surge_store(store, send).tick(NOW)
        clock = [1000.0]
        assert outbox.deliver(store, send, lambda: clock[0]) == 0  # no secret: nothing leaves unsigned
        assert "PEFTLAB_WEBHOOK_SECRET" in rows(store, OUTBOX)[0].error
        monkeypatch.setenv("PEFTLAB_WEBHOOK_SECRET", "key")
        assert outbox.deliver(store, send, lambda: clock[0]) == 0  # not due yet
        taken = []
        for _ in range(3):
            clock[0] += 100
            taken.append(outbox.deliver(store, send, lambda: clock[0]))
        assert taken == [0, 0, 1]
        clock[0] += 1e6
        assert outbox.deliver(store, send, lambda: clock[0]) == 0
    assert len(got) == 3
    headers, body = got[2]
    moment, code = (part.partition("=")[2] for part in headers[outbox.SIGNATURE].split(","))
    assert code == hmac.new(b"key", f"{moment}.{body}".encode(), hashlib.sha256).hexdigest()
    assert {head[outbox.DELIVERY] for head, _ in got} == {"1"}
    assert views.messages(store, 1)[0]["sent"] is not None


def test_an_address_that_cannot_be_is_told_and_stops_no_other_message(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFTLAB_WEBHOOK_SECRET", "key")
    send = Destinations.model_validate({"webhook": {"url": "http://127.0.0.1:99999/hook"}})
    surge_store(store, send).tick(NOW)
    assert outbox.deliver(store, send, lambda: 1000.0) == 0
    assert "Port out of range" in rows(store, OUTBOX)[0].error


def test_the_last_of_many_slow_messages_is_sent_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Destinations.model_validate({"webhook": {"url": "http://127.0.0.1:9/hook"}})
    message(store, count=4)
    clock, posted = [1000.0], []

    def slow(_: Any, number: int, __: str) -> None:
        posted.append(number)
        clock[0] += outbox.LEASE / 2
        if len(posted) == 3:  # another process, whose messages take no time, looks while this one is on its way
            moment = clock[0]
            outbox.deliver(store, send, lambda: moment)

    monkeypatch.setattr(outbox, "post", slow)
    outbox.deliver(store, send, lambda: clock[0])
    assert sorted(posted) == [row.id for row in rows(store, OUTBOX)]


def message(store: Store, count: int = 1) -> None:
    first = {"channel": "webhook", "body": "{}", "due": 0.0, "tries": 0}
    with store.transaction() as connection:
        connection.execute(OUTBOX.insert(), [first | {"alarm": number} for number in range(count)])


@pytest.mark.slow
def test_a_message_that_is_long_on_its_way_is_not_sent_by_another_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LEASE", 0.8)
    message(store)
    posted: list[int] = []
    has_begun, is_done = threading.Event(), threading.Event()

    def slow(_: Any, number: int, __: str) -> None:
        posted.append(number)
        if len(posted) == 1:
            has_begun.set()
            is_done.wait(PATIENCE)

    monkeypatch.setattr(outbox, "post", slow)
    send = Destinations.model_validate({"webhook": {"url": "http://127.0.0.1:9/hook"}})
    first = threading.Thread(target=outbox.deliver, args=(store, send))
    first.start()
    assert has_begun.wait(PATIENCE)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        outbox.deliver(store, send)
        time.sleep(0.05)
    is_done.set()
    first.join()
    assert posted == [1]
    assert rows(store, OUTBOX)[0].sent is not None


def test_a_server_that_answers_byte_by_byte_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFTLAB_WEBHOOK_SECRET", "key")
    message(store)
    has_ended, waited_for = threading.Event(), list[bool]()

    def drip(server: socket.socket) -> None:
        link, _ = server.accept()
        with link, contextlib.suppress(OSError):
            link.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            until = time.monotonic() + PATIENCE
            while not has_ended.wait(0.1):
                link.sendall(b"x")
                if time.monotonic() > until:
                    waited_for.append(True)
                    break

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        send = Destinations.model_validate({"webhook": {"url": url, "timeout_seconds": 1.0}})
        assert outbox.deliver(store, send) == 0
        assert not waited_for
        has_ended.set()
        thread.join()
    assert "has not answered within 1 second" in rows(store, OUTBOX)[0].error


def test_who_is_told_to_stop_begins_no_other_message(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    message(store, count=3)
    posted: list[int] = []
    monkeypatch.setattr(outbox, "post", lambda _, number, __: posted.append(number))
    send = Destinations.model_validate({"webhook": {"url": "http://127.0.0.1:9/hook"}})
    assert outbox.deliver(store, send, is_told_to_stop=lambda: len(posted) == 1) == 1
    assert [row.sent is None for row in rows(store, OUTBOX)] == [False, True, True]


def test_mail_has_the_texts_and_no_line_of_them_in_its_head(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Server:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> Server:
            return self

        def __exit__(self, *_: object) -> None: ...
        def send_message(self, message: Any) -> dict[str, tuple[int, bytes]]:
            sent.append(message)
            return {"gone@example.org": (550, b"no such user")}

    monkeypatch.setattr("smtplib.SMTP", Server)
    send = Destinations.model_validate(
        {
            "mail": {
                "host": "localhost",
                "sender": "m@example.org",
                "to": ["a@example.org", "gone@example.org"],
                "start_tls": False,
            }
        }
    )
    surge_store(store, send).tick(NOW)
    with store.transaction() as connection:
        body = json.loads(rows(store, OUTBOX)[0].body)
        body["sentence"] += "\nBcc: everyone@example.org"
        connection.execute(OUTBOX.update().values(body=json.dumps(body)))
    assert outbox.deliver(store, send, lambda: 1000.0) == 1
    assert "Bcc" not in sent[0]
    assert "number3" in sent[0].get_content()
    told = rows(store, OUTBOX)[0]
    assert (told.sent, told.error) == (1000.0, "not to gone@example.org: 550 no such user")
    assert outbox.deliver(store, send, lambda: 9000.0) == 0  # the others would get it twice


def test_a_full_disk_loses_nothing_and_says_so(store: Store) -> None:
    with store.transaction() as connection:
        pages = connection.execute(sqlalchemy.text("PRAGMA page_count")).scalar()
    sqlalchemy.event.listen(
        store._database.engine, "begin", lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    )
    posts = [post(f"t{at}", MONDAY, "bad " * 900 + str(at)) for at in range(50)]
    with pytest.raises(StorageError, match="full"):
        store.add(posts, [None] * 50)
    assert store.counts()["texts"] == 0


def test_a_database_of_another_version_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'b.db'}"
    Store(url)
    monkeypatch.setattr("peftlab.applications.monitor.store.VERSION", 2)
    with pytest.raises(UserError, match="version 1"):
        Store(url)
