"""Labels by hand: each answer on disk, taken back, taken up again; who may give them; and what bad input gets."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from peftlab.board.label_app import build_label_app
from peftlab.board.label_table import LabelTable, Question
from peftlab.core.errors import UserError
from peftlab.data.data_config import DataConfig
from peftlab.data.tables import read_table
from tests.conftest import Command
from tests.patience import PATIENCE

TOKEN = "a-long-secret"
ROWS = 'text,id,select_rank\nwhat a day,7,1\n"so, so",8,2\n<b>bad</b>,9,3\n'
OWN = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
ASKED = Question(("text",), ("label",), ("good", "bad"))


@pytest.fixture
def selection(tmp_path: Path) -> Path:
    (tmp_path / "selection.csv").write_text(ROWS)
    return tmp_path / "selection.csv"


def visitor(table: LabelTable) -> TestClient:
    client = TestClient(build_label_app(table, token=TOKEN))
    client.get(f"/?token={TOKEN}")
    return client


def wait_for(port: str) -> None:
    """Until somebody answers there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1) as found:
            found.sendall(b"GET /label.css HTTP/1.0\r\n\r\n")
            if found.recv(4) == b"HTTP":
                return
        time.sleep(0.1)


def written(path: Path) -> list[dict]:
    table = read_table(path, DataConfig(source="data"))
    return [dict(zip(table.columns, row, strict=True)) for row in zip(*table.columns.values(), strict=True)]


def test_each_answer_is_on_disk_and_can_be_taken_back(selection: Path, tmp_path: Path) -> None:
    output = tmp_path / "labelled.csv"
    client = visitor(LabelTable(selection, output, ASKED))
    page = client.get("/")
    assert str(page.url).endswith("/row/1")
    assert "what a day" in page.text
    page = client.post("/row/1", data={"label": "1"}, headers=OWN)
    assert str(page.url).endswith("/row/2")
    assert written(output) == [{"text": "what a day", "id": "7", "label": "bad"}]
    client.post("/row/3", data={"label": "0"}, headers=OWN)
    assert "&lt;b&gt;bad&lt;/b&gt;" in client.get("/row/3").text
    page = client.post("/row/1", data={"label": "0"}, headers=OWN)  # thought better of it
    assert str(page.url).endswith("/row/2")
    assert [row["label"] for row in written(output)] == ["good", "good"]
    assert str(client.post("/undo", headers=OWN).url).endswith("/row/1")
    assert [row["label"] for row in written(output)] == ["bad", "good"]
    client.post("/undo", headers=OWN)
    assert str(client.post("/undo", headers=OWN).url).endswith("/row/1")
    assert not output.exists()
    assert client.get("/row/4").status_code == 404
    for address in ("/row/one", f"/row/{'9' * 5000}"):  # Python reads no number of so many digits
        odd = client.get(address)
        assert (odd.status_code, odd.headers["content-type"].split(";")[0]) == (404, "text/html")
    for strange in ("2", "-1", "", "9" * 5000):
        assert client.post("/row/1", data={"label": strange}, headers=OWN).status_code == 400
    assert not output.exists()


def test_it_goes_on_where_it_was_and_keeps_earlier_rows(selection: Path, tmp_path: Path) -> None:
    output = tmp_path / "labelled.csv"
    output.write_text('label,text\ngood,an older text\nbad,"so, so"\n')
    table = LabelTable(selection, output, ASKED)
    assert (table.done, table.answer_of(1)) == (1, ("bad",))
    client = visitor(table)
    assert str(client.get("/").url).endswith("/row/1")
    for number in (1, 3):
        page = client.post(f"/row/{number}", data={"label": "0"}, headers=OWN)
    assert str(page.url).endswith("/done")
    assert "All 3 rows have a label" in page.text
    assert [(row["text"], row["label"]) for row in written(output)] == [
        ("an older text", "good"), ("what a day", "good"), ("so, so", "bad"), ("<b>bad</b>", "good"),
    ]  # fmt: skip
    output.write_text(output.read_text() + "mine,good\n")  # somebody else writes meanwhile
    refused = client.post("/row/1", data={"label": "1"}, headers=OWN)
    assert refused.status_code == 422
    assert "changed by another program" in refused.text
    assert "mine,good" in output.read_text()


def test_nothing_that_stands_in_the_output_is_lost(selection: Path, tmp_path: Path) -> None:
    output = tmp_path / "labelled.csv"
    output.write_text('text,id,note,label\n"so, so",8,seen twice,good\nother,1,,bad\n')
    table = LabelTable(selection, output, ASKED)
    table.answer(0, ["bad"])
    assert [(row["text"], row["note"], row["label"]) for row in written(output)] == [
        ("other", None, "bad"), ("what a day", None, "bad"), ("so, so", "seen twice", "good"),
    ]  # fmt: skip
    before = output.read_bytes()
    with pytest.raises(UserError, match="row 3: the label `good` is none of the classes, which are bad, fine"):
        LabelTable(selection, output, Question(("text",), ("label",), ("bad", "fine")))
    with pytest.raises(UserError, match="the label `good` is none of the classes"):
        LabelTable(selection, output, Question(("text",), ("label",), ("bad", "fine"), several=True))
    assert output.read_bytes() == before


def test_rows_with_equal_texts_keep_a_label_each(tmp_path: Path) -> None:
    source, output = tmp_path / "twice.csv", tmp_path / "labelled.csv"
    source.write_text("text,id\nfine,1\nfine,2\nfine,3\n")
    table = LabelTable(source, output, ASKED)
    table.answer(0, ["good"])
    table.answer(1, ["bad"])
    again = LabelTable(source, output, ASKED)
    assert [again.answer_of(at) for at in range(3)] == [("good",), ("bad",), None]
    again.answer(2, ["good"])
    assert len(read_table(output, DataConfig(source="data"))) == 3


def test_a_text_may_have_several_labels(selection: Path, tmp_path: Path) -> None:
    names = ("short", "rude", "odd")
    for question, wanted in (
        (Question(("text",), ("labels",), names, several=True), [{"labels": "short,odd"}, {"labels": ""}]),
        (
            Question(("text",), names, names, several=True),
            [{"short": "1", "rude": "0", "odd": "1"}, dict.fromkeys(names, "0")],
        ),
    ):
        output = tmp_path / "labelled.csv"
        output.unlink(missing_ok=True)
        client = visitor(LabelTable(selection, output, question))
        client.post("/row/1", data={"c0": "on", "c2": "on"}, headers=OWN)
        client.post("/row/2", data={}, headers=OWN)
        rows = [{name: row[name] or "" for name in question.label_columns} for row in written(output)]
        assert rows == wanted
        again = LabelTable(selection, output, question)
        assert [again.answer_of(at) for at in range(3)] == [("short", "odd"), (), None]


def test_only_who_has_the_token_labels_and_no_page_of_another_site(selection: Path, tmp_path: Path) -> None:
    table = LabelTable(selection, tmp_path / "labelled.csv", ASKED)
    stranger = TestClient(build_label_app(table, token=TOKEN))
    assert stranger.get("/row/1").status_code == 401
    assert stranger.post("/row/1", data={"label": "0"}, headers=OWN).status_code == 401
    client = visitor(table)
    assert (
        client.post("/row/1", data={"label": "0"}, headers={**OWN, "sec-fetch-site": "cross-site"}).status_code == 403
    )
    refused = client.get("/row/1", headers={"host": "evil.example"})
    assert refused.status_code == 400
    assert "PEFTLAB_TOKEN" in refused.text
    assert table.done == 0
    headers = client.get("/row/1").headers
    assert "script-src 'self'" in headers["content-security-policy"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_the_page_is_told_how_far_it_is(selection: Path, number: signal.Signals) -> None:
    words = ["label", str(selection), "--class", "good", "--class", "bad", "--port", "0"]
    command = [sys.executable, "-m", "peftlab", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as page:
        told = page.stderr.readline()
        assert "3 of 3 rows have no label yet" in told
        wait_for(told.partition("http://127.0.0.1:")[2].partition("/")[0])
        page.send_signal(number)
        _, said = page.communicate(timeout=PATIENCE)
    assert page.returncode == 0
    assert said.startswith("0 of 3 rows have a label")


@pytest.mark.slow
def test_a_text_that_could_not_be_written_is_told_before_the_first_answer(tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text('{"text": "fine"}\n{"text": "nothing\\u0000 here"}\n')
    with pytest.raises(UserError, match=r"row 2.*NUL character") as told:
        LabelTable(table, tmp_path / "out.csv", ASKED)
    assert ".jsonl or .parquet" in str(told.value)
    rows = LabelTable(table, tmp_path / "out.jsonl", ASKED)
    rows.answer(1, ["good"])
    assert LabelTable(table, tmp_path / "out.jsonl", ASKED).answer_of(1) == ("good",)
    table.write_text('{"text": "fine", "note": "half\\ud83d"}\n')
    for ending in ("csv", "jsonl", "parquet"):
        with pytest.raises(UserError, match=r"row 1, column `note`.*half of a character"):
            LabelTable(table, tmp_path / f"other.{ending}", ASKED)


def test_a_run_says_what_is_asked(tiny_run: Callable[..., Path]) -> None:
    assert Question.of_run(tiny_run()) == Question(("text",), ("label",), ("bad", "good"))


def test_bad_input_gets_a_message(selection: Path, tmp_path: Path, command: Command) -> None:
    for words, told in (
        (["label", selection], "not known which classes"),
        (["label", selection, "--class", "a", "--class", "b", "--text", "body"], "there is no column `body`"),
        (["label", selection, "--class", "a"], "`a` alone leaves nothing to choose"),
        (["label", tmp_path / "none.csv", "--class", "a", "--class", "b"], "none.csv"),
        (["label", selection, "--class", "a", "--class", "b", "--output", selection], "selection.csv"),
        (["label", selection, "--class", "a", "--class", "b", "--host", "192.0.2.1"], "no token"),
        (["label", selection, "--run", tmp_path, "--class", "b"], "the run says which"),
    ):
        done = command(*words)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
    (tmp_path / "bytes.csv").write_bytes(b"text\nb\x80d\n")
    done = command("label", tmp_path / "bytes.csv", "--class", "a", "--class", "b")
    assert "is not utf-8\n  Save the table as UTF-8" in done.stderr  # no word of keys, which this verb does not take
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column `text`"):
        LabelTable(selection, tmp_path / "other.csv", ASKED)
    assert selection.read_text() == ROWS
