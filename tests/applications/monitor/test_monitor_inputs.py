"""What comes in as it should not: labels that are numbers, broken lines, names without end, clocks that were wrong."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sklearn.cluster import AgglomerativeClustering

from peftlab.applications.monitor import outbox, proposals, views
from peftlab.applications.monitor.application import Monitor
from peftlab.applications.monitor.feeding import _lines, _posts
from peftlab.applications.monitor.intake import keep
from peftlab.applications.monitor.posts import TABLES, Labelled, load_posts, read_labelled, write_tables
from peftlab.applications.monitor.posts import _write_csv as write_csv
from peftlab.applications.monitor.redis_stream import _keep
from peftlab.applications.monitor.settings import Destinations, Posts
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.tables import OUTBOX
from peftlab.applications.monitor.times import read_time
from peftlab.core.application import Workplace
from peftlab.core.errors import DataError, UserError
from tests.applications.monitor.word_reader import WordReader

MAIL = {"host": "mail.example", "sender": "m@example.org", "to": ["a@example.org"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'a.db'}")


def loaded(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Labelled]:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    posts = Posts.model_validate({"source": "rows.jsonl", "stream": "stream", "ignored_topics": ["2"]})
    cut = load_posts(posts, Workplace(folder / "app", {}, folder, offline=True), 0)
    return [*cut.train, *cut.test]


def test_labels_and_streams_that_are_numbers_are_names_and_0_is_one(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "time": "2020-01-01", "sentiment": 0, "topic": 0, "stream": 0},
        {"text": "b", "time": "2020-01-02", "sentiment": 4, "topic": 2, "stream": 1},
        {"text": "c", "time": "2020-01-03", "sentiment": False, "topic": None, "stream": None},
    ]
    found = [(row.sentiment, row.topic, row.stream) for row in loaded(tmp_path, rows)]
    assert found == [("0", "0", "0"), ("4", "", "1"), ("False", "", "all")]


def test_a_table_that_has_changed_is_not_taken_for_the_one_that_was_built_on(tmp_path: Path) -> None:
    monitor = Monitor.model_validate(
        {"name": "a", "sentiment": {"run": "a"}, "topic": {"run": "b"}, "posts": {"source": "x.csv", "time": "time"}}
    )
    table, place = tmp_path / "x.csv", Workplace(tmp_path / "built", {}, sources=tmp_path)
    rows = [f"text {at},{1_400_000_000 + 3600 * at},negative,delay" for at in range(20)]
    table.write_text("text,time,sentiment,topic\n" + "\n".join(rows) + "\n")
    assert write_tables(monitor, place) == write_tables(monitor, place)
    table.write_text(table.read_text() + "text 20,1400072000,negative,delay\n")
    with pytest.raises(UserError, match="has changed since this folder was begun"):
        write_tables(monitor, place)


@pytest.mark.parametrize(
    ("odd", "told"), [({"text": "\ud83d"}, "half of a character"), ({"topic": "*"}, "stands for all topics together")]
)
def test_what_cannot_be_kept_is_told_with_its_row(tmp_path: Path, odd: dict[str, str], told: str) -> None:
    row = {"text": "a", "time": "2020-01-01", "sentiment": "bad", "topic": "x", "stream": "s"}
    rows = [row, {**row, "text": "b"}, {**row, **odd}]
    with pytest.raises(DataError, match=told) as caught:
        loaded(tmp_path, rows)
    assert "row 3" in str(caught.value)


def test_texts_with_an_empty_id_are_texts_of_their_own(tmp_path: Path, store: Store) -> None:
    rows = [
        {"text": "late again", "time": 1e9, "stream": "s", "id": own} for own in ("", " ", None, float("nan"), 0, "a")
    ]
    posts = Posts.model_validate({"source": "rows.jsonl", "stream": "stream"})
    place = Workplace(tmp_path, {})
    where = [(f"row {at}", row) for at, row in enumerate(rows)]
    found = [each for each in _posts(where, posts, "t.csv", store, Counter(), place) if each is not None]
    assert len({each.name for each in found}) == len(rows)
    assert [each.name for each in found[-2:]] == ["id:0", "id:a"]
    assert keep(found, store, WordReader())["new"] == len(rows)
    again = _posts(where, posts, "t.csv", store, Counter(), place)
    assert keep([each for each in again if each is not None], store, WordReader())["new"] == 0


def test_the_longest_text_is_read_back(tmp_path: Path) -> None:
    row = (1e9, "s", "bad", "x", "long " * 50_000)
    write_csv(tmp_path / TABLES / "learned.csv", ("time", "stream", "sentiment", "topic", "text"), [row])
    assert read_labelled(Workplace(tmp_path, {}), "learned") == [Labelled(row[4], 1e9, "s", "bad", "x")]


def test_days_are_days_where_one_is_missing_in_their_column_too() -> None:
    wanted = read_time("2020-05-31", now=2e9)
    for given in (20200531, "20200531", 20200531.0, "20200531.0"):
        assert read_time(given, now=2e9) == wanted


def test_a_broken_line_ends_no_other(store: Store) -> None:
    posts = Posts.model_validate({"source": "-", "stream": "stream"})
    lines = [
        b'\xef\xbb\xbf{"text": "bad delay", "time": 1e9, "stream": 0}\n',
        b'{"text": "bad \xff bag", "time": 1e9}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b'{"text": "good crew", "time": 1e9, "id": 0}\n',
    ]
    told: Counter[str] = Counter()
    taken = list(_posts(_lines(lines), posts, "-", store, told, Workplace(Path(), {})))
    assert [(post.text, post.stream) for post in taken] == [
        ("bad delay", "0"), ("bad � bag", "all"), ("good crew", "all"),
    ]  # fmt: skip
    assert taken[2].name == "id:0"
    assert told["refused"] == store.counts()["refused"] == 2
    assert keep(taken, store, WordReader())["new"] == 3


def test_texts_of_a_stream_whose_name_is_very_long_are_all_kept(store: Store) -> None:
    stream = "posts:" * 60
    messages = [(f"1700000000000-{at}", {"text": f"bad {at}", "time": "1e9"}) for at in range(3)]
    for new in (3, 0):
        assert _keep(messages, stream, store, WordReader())["new"] == new
    assert store.counts()["texts"] == 3


def test_long_texts_take_no_more_words_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "MOST_WORDS", 50)
    letters = "abcdefghijklmnopqrstuvwxyz"
    rare = [f"{a}{b}{c}" for a in letters for b in letters for c in letters[:3]]
    coffee = [f"hot coffee spilled over my {thing}" for thing in ("coat", "laptop", "lap", "book", "phone", "bag")]
    texts = [*coffee, *[" ".join(rare[at::6]) for at in range(6)] * 2]
    sizes: list[int] = []
    cluster = AgglomerativeClustering.fit_predict

    def note(model: Any, vectors: Any) -> Any:
        sizes.append(vectors.shape[1])
        return cluster(model, vectors)

    monkeypatch.setattr(AgglomerativeClustering, "fit_predict", note)
    assert any({"coffee", "spilled"} & set(found.words) for found in proposals.propose(texts))
    assert sizes == [50]


SEND = Destinations.model_validate({"webhook": {"url": "http://127.0.0.1:9/hook"}})


def message(store: Store, **values: Any) -> None:
    row = {"alarm": 1, "channel": "webhook", "body": "{}", "due": 0.0, "tries": 0, **values}
    with store.transaction() as connection:
        connection.execute(OUTBOX.insert().values(**row))


def test_a_message_that_has_failed_for_years_is_still_sent_and_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    message(store, tries=5000)
    answers: list[Exception | None] = [http.client.BadStatusLine("\0\ud83d"), None]
    posted = []

    def post(_: Any, number: int, __: str) -> None:
        posted.append(number)
        if (error := answers.pop(0)) is not None:
            raise error

    monkeypatch.setattr(outbox, "post", post)
    assert outbox.deliver(store, SEND, lambda: 1e9) == 0
    assert outbox.deliver(store, SEND, lambda: 1e9 + outbox.LONGEST_PAUSE - 1) == 0
    assert "\0" not in views.messages(store, 1)[0]["error"]
    assert outbox.deliver(store, SEND, lambda: 1e9 + outbox.LONGEST_PAUSE) == 1
    assert outbox.deliver(store, SEND, lambda: 2e9) == 0
    assert len(posted) == 2
    assert views.messages(store, 1)[0]["tries"] == 5002


def test_a_clock_that_was_a_year_ahead_holds_no_message_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    message(store, due=1e9 + 365 * 86_400)
    monkeypatch.setattr(outbox, "post", lambda *_: None)
    assert outbox.deliver(store, SEND, lambda: 1e9) == 1


@pytest.mark.parametrize(
    ("send", "told"),
    [
        ({"webhook": {"url": "https://a.example/x", "secret_variable": "AWS_SECRET_ACCESS_KEY"}}, "secret_variable"),
        ({"mail": MAIL | {"password_variable": "HF_TOKEN"}}, "password_variable"),
        ({"mail": MAIL | {"password_variable": "PEFTLAB_TOKEN"}}, "password_variable"),
        ({"mail": MAIL | {"user": "me", "start_tls": False}}, "for all to read"),
    ],
)
def test_no_other_secret_of_the_environment_leaves_the_machine(send: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Destinations.model_validate(send)


def test_it_is_told_who_gets_alarms_and_not_by_which_secret_address() -> None:
    webhook = {"url": "https://user:word@hooks.example/services/T0/secret?key=1"}
    told = Destinations.model_validate({"webhook": webhook, "mail": MAIL | {"start_tls": False}}).in_words()
    assert told == "alarms, with texts, go out by POST to hooks.example and by mail to a@example.org over mail.example"
    assert Destinations.model_validate({}).in_words() is None
