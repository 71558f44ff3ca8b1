"""The page and the API of a monitor whose reader knows words; drift and new topics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import MARKUP, PHONE, Page, serve
from fastapi.testclient import TestClient

from peftlab.applications.monitor import feeding, site
from peftlab.applications.monitor.application import Monitor
from peftlab.applications.monitor.building import HISTORY_NAME
from peftlab.applications.monitor.drift import find_drift
from peftlab.applications.monitor.proposals import propose
from peftlab.core.application import Hosting, Workplace
from peftlab.core.errors import DataError
from peftlab.core.reporter import Silent
from tests.applications.monitor.word_reader import WordReader

MONITOR = Monitor.model_validate(
    {
        "name": "opinion", "sentiment": {"run": "a"}, "topic": {"run": "b"},
        "posts": {"source": "x.csv", "stream": "airline"}, "watch": {"topic_false_alarms_a_month": 0},
    }
)  # fmt: skip
HOUR = 300_000  # in the year 2004
HOSTILE = "bad <script>alert(1)</script> <img src=x onerror=alert(2)> delay"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    hours = [("united", topic, HOUR - 240 + at, 5) for topic in ("*", "delay") for at in range(240)]
    (tmp_path / HISTORY_NAME).write_text(json.dumps({"topics": ["delay"], "until": HOUR, "hours": hours}))
    monkeypatch.setattr(site, "open_reader", lambda _: WordReader())
    monkeypatch.setattr(site.Worker, "start", lambda worker: setattr(site, "worker_in_test", worker))
    monkeypatch.setattr(site.Worker, "stop", lambda _: None)
    app = site.open_site(MONITOR, Workplace(tmp_path, {}), Hosting(f"sqlite:///{tmp_path / 'a.db'}"))
    with TestClient(app) as client:
        yield client


class Bar(Silent):
    """Keeps what a progress bar would show."""

    def __init__(self) -> None:
        self.shown: list[object] = []

    def start(self, description: str, total: int) -> None:
        self.shown.append((description, total))

    def advance(self, units: int, detail: str = "") -> None:
        self.shown.append(units)

    def finish(self) -> None:
        self.shown.append("end")


def test_a_table_is_fed_once_judged_and_its_progress_shown(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "open_reader", lambda _: WordReader())
    table = tmp_path / "new.jsonl"
    rows = [
        {"text": f"bad {'word' * at} delay", "time": (HOUR + 0.01 * at) * 3600, "airline": "united"} for at in range(80)
    ]
    # Two equal rows are two texts; one has no text; one is after the hour, which is over thus.
    rows += [rows[0], {**rows[0], "text": " "}, {**rows[0], "time": (HOUR + 1.5) * 3600}]
    table.write_text("\n".join(map(json.dumps, rows)))
    hosting, bar = Hosting(f"sqlite:///{tmp_path / 'a.db'}"), Bar()
    told = MONITOR.feed(Workplace(tmp_path, {}, reporter=bar), hosting, [str(table)])
    assert told == {"read": 82, "new": 82, "known": 0, "refused": 1}
    assert bar.shown == [(f"reading {table}", 83), 64, 18, "end"]
    assert MONITOR.feed(Workplace(tmp_path, {}), hosting, [str(table)])["new"] == 0
    alarms = client.get("/api/alarms").json()
    assert [(alarm["stream"], alarm["began"]) for alarm in alarms] == [("united", HOUR)]
    table.write_text('{"text": "a", "time": 1}')
    with pytest.raises(DataError, match="has no column `airline`"):
        MONITOR.feed(Workplace(tmp_path, {}), hosting, [str(table)])


def test_texts_come_in_are_counted_once_and_shown_as_they_are_not_run(client: TestClient) -> None:
    worker = site.worker_in_test
    sent = [
        {"text": f"bad {'word' * at} delay", "time": (HOUR + 0.01 * at) * 3600, "stream": "united", "id": f"t{at}"}
        for at in range(40)
    ]
    sent.append({"text": HOSTILE, "time": (HOUR + 0.9) * 3600, "stream": "<b>x</b>"})
    assert client.post("/api/texts", json=sent).json() == {"new": 41, "known": 0}
    assert client.post("/api/texts", json=sent[:40]).json() == {"new": 0, "known": 40}
    later = {"text": "good thing", "time": (HOUR + 1.5) * 3600, "stream": "united"}
    assert client.post("/api/texts", json=[later]).status_code == 202
    assert "peftlab_monitor_texts_waiting 42" in client.get("/metrics").text
    assert worker.read()
    assert not worker.read()
    worker.judge()
    alarm = client.get("/api/alarms").json()[0]
    assert (alarm["stream"], alarm["began"], alarm["voices"]) == ("united", HOUR, 40)
    assert len(client.get(f"/api/alarms/{alarm['id']}").json()["texts"]) == 40
    for number in (99, 0, -1, 2**63, 10**30):
        assert client.get(f"/api/alarms/{number}").status_code == 404
        assert client.get(f"/alarms/{number}").status_code == 404
    for address in ("/", "/panel", "/?stream=%3Cb%3Ex%3C%2Fb%3E", f"/alarms/{alarm['id']}", "/topics?stream=united"):
        page = client.get(address)
        assert page.status_code == 200, address
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "<b>x" not in page.text
    assert "&lt;script&gt;" in client.get("/?stream=%3Cb%3Ex%3C%2Fb%3E").text
    assert client.get("/api/series?stream=united&hours=10").json()["series"]["*"][-2] == 40
    for name in ("series", "drift", "proposals"):
        assert client.get(f"/api/{name}?stream=united").status_code == 200
        unknown = client.get(f"/api/{name}?stream=untied")
        assert unknown.status_code == 404
        assert "/api/streams" in unknown.text
    assert "--page" in client.get("/monitor.css").text
    assert client.get("/monitor.js").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/texts", "/api/alarms", "/api/series", "/api/drift", "/api/proposals", "/metrics"} <= set(paths)


def test_a_time_that_cannot_be_told_refuses_the_request_and_stores_nothing(client: TestClient) -> None:
    for given, message in (("soon", "cannot be read"), ("2999-01-01", "in the future")):
        answer = client.post("/api/texts", json=[{"text": "good", "time": 1e9}, {"text": "bad", "time": given}])
        assert answer.status_code == 422
        assert message in answer.json()["error"]
    assert client.post("/api/texts", json=[{"text": " "}]).status_code == 422
    assert client.post("/api/texts", json=[]).status_code == 422
    for body, message in (
        (b"{", "the body is not JSON"),
        (b"", "the body is empty"),
        (b"{}", "the body is no list of JSON"),
    ):
        answer = client.post("/api/texts", content=body, headers={"content-type": "application/json"}).json()
        assert message in answer["error"]
        assert answer["hint"]
    assert client.get("/api/text").json() == {
        "error": "there is no route /api/text",
        "hint": "/openapi.json describes all routes.",
    }
    assert "peftlab_monitor_texts 0" in client.get("/metrics").text


def test_drift_is_seen_by_days_and_not_in_one_loud_day() -> None:
    random = np.random.default_rng(0)
    steady = random.poisson(20, (3, 35)).astype(float)
    moved = steady.copy()
    moved[0, 28:] += 30
    found = find_drift(moved, ["a", "b", "c"])
    assert found is not None
    assert found.p_value <= 0.01
    assert found.recent["a"] - found.earlier["a"] == pytest.approx(found.distance)
    quiet, loud = find_drift(steady, ["a", "b", "c"]), steady.copy()
    assert quiet is not None
    assert quiet.p_value > 0.01
    loud[0, 30] += 100
    assert find_drift(loud, ["a", "b", "c"]).p_value > 0.01
    assert find_drift(steady[:, -8:], ["a", "b", "c"]) is None


def test_texts_that_speak_of_the_same_are_proposed_as_a_topic() -> None:
    spilled = [
        f"hot coffee spilled over my {thing} on board" for thing in ("coat", "laptop", "lap", "book", "phone", "bag")
    ]
    mixed = [
        f"{a} {b} nobody {c}"
        for a, b, c in zip(
            ["alpha", "beta", "gamma", "delta", "epsi", "zeta"],
            ["uno", "due", "tre", "quat", "cinq", "sei"],
            ["red", "blue", "green", "black", "white", "grey"],
            strict=True,
        )
    ]
    found = propose(spilled + mixed)
    assert set(found[0].members) == set(range(6))
    assert {"coffee", "spilled"} & set(found[0].words)
    assert propose(mixed) == []


@pytest.mark.slow
def test_markup_in_texts_streams_and_topics_runs_nothing_in_a_browser(client: TestClient, tab: Page) -> None:
    worker = site.worker_in_test
    sent = [
        {
            "text": f"bad {MARKUP} {' '.join(f'{at}x{word}' for word in range(20))} delay",
            "time": (HOUR + 0.01 * at) * 3600,
            "stream": stream,
        }
        for stream in ("united", f"air {MARKUP}")
        for at in range(40)
    ]
    sent.append({"text": "bad " + 900 * "many words ", "time": (HOUR + 0.9) * 3600, "stream": "united"})
    sent.append({"text": f"good {MARKUP}{MARKUP}", "time": (HOUR + 1.5) * 3600, "stream": f"air {MARKUP}"})
    assert client.post("/api/texts", json=sent).status_code == 202
    while worker.read():
        pass
    worker.judge()
    assert [alarm["stream"] for alarm in client.get("/api/alarms").json()] == ["united"]
    shown = "document.body.innerText.includes('<script>window.ran = 1</script>')"
    with serve(client.app) as address:
        tab.forget()
        for name, path in (("monitor", "/"), ("monitor-stream", "/?stream=united"), ("monitor-alarm", "/alarms/1"),
                           ("monitor-topics", "/topics")):  # fmt: skip
            tab.visit(address + path, **PHONE)
            tab.look(name)
            assert tab.evaluate(shown), name
        tab.visit(f"{address}/", **PHONE)
        tab.visit(f"{address}/?stream=united", **PHONE)
        assert (
            tab.evaluate("Math.max(...[...document.querySelectorAll('.text')].map((each) => each.offsetHeight))") <= 240
        )
        inline = "[...document.querySelectorAll('nav a, .rows span, .rows time, bdi')]"
        assert tab.evaluate(f"{inline}.every((each) => getComputedStyle(each).unicodeBidi.startsWith('isolate'))")
        tab.evaluate(
            "window.own = fetch; window.fetch = (...given) => own(...given).then((answer) => {"
            " const link = document.querySelector('nav a'); link.id = 'mine'; link.focus(); return answer; })"
        )
        tab.evaluate("renew()")  # somebody moves into the panel while it is asked for
        assert tab.evaluate("document.activeElement.id") == "mine"
        tab.visit(f"{address}/", **PHONE)
        tab.evaluate("panel.replaceChildren()")
        tab.evaluate("renew()")  # as it does every five seconds
        tab.look("monitor-renewed")
        assert tab.evaluate(shown)
        assert tab.errors == []
        assert tab.asked_elsewhere(address) == []
