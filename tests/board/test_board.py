"""The board on small made-up folders of runs, through its own application."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from peftlab.board.app import PAGE, build_board
from peftlab.board.runs import RunIndex
from peftlab.board.server import show_board
from peftlab.core.errors import UserError
from peftlab.core.record import Guard, RunRecord, write_record
from peftlab.core.reporter import Silent
from peftlab.run.at_work import at_work

HOSTILE = "<script>alert(1)</script>"


def make_run(folder: Path, *, method: str = "lora", score: float | None = 0.8, **others: Any) -> Path:
    folder.mkdir(parents=True)
    values = {
        "name": folder.name,
        "status": "success",
        "recipe": {
            "name": folder.name,
            "seed": 0,
            "model": {"path": "tiny"},
            "task": {"type": "text_classification"},
            "method": {"type": method},
            "evaluation": {"metric": "accuracy"},
            "training": {"epochs": 2},
        },
        "scores": {"test": {"accuracy": score}} if score is not None else {},
        "guards": {"base_unchanged": Guard.check(True, "all is as it was")},
        "started_at": "2026-01-01T00:00:00+00:00",
        "seconds": 12.0,
    } | others
    write_record(RunRecord.model_validate(values), folder)
    (folder / "recipe.yaml").write_text(f"name: {folder.name}\n")
    lines = [{"step": step, "epoch": 1, "loss": 1 / step} for step in (1, 2, 3)]
    lines += [{"step": step, "validation": {"accuracy": 0.5 + step / 10}} for step in (1, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    old = time.time() - 3600
    for path in folder.iterdir():
        os.utime(path, (old, old))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "runs" / "first")
    rows = {
        "split": ["test"] * 120,
        "index": list(range(120)),
        "label": ["good"] * 119 + [HOSTILE],
        "prediction": ["good"] * 118 + ["bad", "bad"],
    }
    pq.write_table(pa.table(rows), folder / "predictions.parquet")
    make_run(tmp_path / "runs" / "model" / "second", method="bitfit", score=None, status="failed", error=HOSTILE)
    return tmp_path / "runs"


@pytest.fixture
def client(root: Path) -> TestClient:
    return TestClient(build_board(root), raise_server_exceptions=False)


def test_the_list_is_searched_and_sorted(client: TestClient, root: Path) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "2 below" in page.text
    assert "/run/model/second" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert HOSTILE not in page.text
    found = client.get("/", params={"q": "BITFIT failed"}).text
    assert "/run/model/second" in found
    assert "/run/first" not in found
    assert "No run matches" in client.get("/", params={"q": "nothing of this"}).text
    by_score = client.get("/", params={"sort": "score"}).text
    assert by_score.index("/run/first") < by_score.index("/run/model/second")
    assert client.get("/", params={"sort": "no such"}).status_code == 200


def test_a_run_is_shown_with_wrong_predictions_first_and_all_escaped(client: TestClient) -> None:
    page = client.get("/run/first").text
    for wanted in ("accuracy", "base_unchanged", "<svg", "training.epochs", "2 of 120 differ", "page 1 of 3"):
        assert wanted in page, wanted
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert page.index("bad") < page.index(">0</td>")
    last = client.get("/run/first", params={"page": 99}).text
    assert "page 3 of 3" in last
    assert HOSTILE not in client.get("/run/model/second").text


@pytest.mark.parametrize("key", ["nothing", "../outside", "..%2Foutside", "/etc", "first/../../outside", "link"])
def test_only_what_was_found_can_be_asked_for(root: Path, client: TestClient, key: str) -> None:
    make_run(root.parent / "outside")
    (root / "link").symlink_to(root.parent / "outside")
    for ending in ("", "/progress", "/events"):
        answer = client.get(f"/run/{key}{ending}")
        assert answer.status_code == 404, key
        assert "there is no run" in answer.text or "Not Found" in answer.text
        assert "training loss" not in answer.text


def test_a_run_that_goes_on_is_followed_to_its_end(root: Path, client: TestClient) -> None:
    folder = root / "third"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: third\n")
    (folder / "metrics.jsonl").write_text('{"step": 7, "epoch": 1, "loss": 0.25}\n{"step": 8, "lo')
    record = RunRecord(name="third", status="success", recipe={}, started_at="2026-01-01T00:00:00+00:00", seconds=1.0)
    # It was stopped before, and is taken up again.
    write_record(record.model_copy(update={"status": "cancelled", "error": "stopped by the user"}), folder)
    os.utime(folder / "record.json", (0, 0))
    page = client.get("/run/third").text
    assert "going" in page
    assert "stopped by the user" not in page
    assert "step 7" in page
    assert 'data-follow="/run/third"' in page
    end = threading.Timer(0.3, write_record, (record, folder))
    end.start()
    told = client.get("/run/third/events").text  # the client gives it once the stream has ended
    end.join()
    assert told.startswith("event: changed\ndata: going\n")
    assert told.endswith("event: ended\ndata: success\n\n")


@pytest.mark.parametrize(("address", "words"), [("/?page=0", "page: "), (f"/?q={'x' * 300}", "q: ")])
def test_a_wrong_address_is_told_on_a_page(client: TestClient, address: str, words: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")
    assert words in answer.text


def test_what_is_broken_is_told_and_never_a_traceback(root: Path, client: TestClient, tmp_path: Path) -> None:
    (root / "first" / "record.json").write_text("[" * 100_000)
    assert "unreadable" in client.get("/").text
    (root / "first" / "record.json").write_text("{")
    (root / "first" / "predictions.parquet").write_bytes(b"none")
    stopped = root / "stopped"
    stopped.mkdir()
    for name in ("recipe.yaml", "metrics.jsonl"):
        (stopped / name).write_text("")
        os.utime(stopped / name, (0, 0))
    page = client.get("/").text
    assert "unreadable" in page
    assert "stopped" in page
    answer = client.get("/run/first")
    assert answer.status_code == 200
    assert "the record is damaged" in answer.text
    assert "the predictions are damaged" in answer.text
    assert "training loss" in answer.text  # the rest can be looked at
    assert "left no record" in client.get("/run/stopped").text
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "There is no run in this folder yet" in TestClient(build_board(empty)).get("/").text
    with pytest.raises(UserError, match="no such folder"):
        build_board(tmp_path / "nowhere")


def test_runs_are_compared_by_the_report(root: Path, client: TestClient) -> None:
    make_run(root / "third", method="bitfit", score=0.7)
    page = client.get("/compare", params={"run": ["first", "third"]})
    assert page.status_code == 200
    assert "peftlab report" in page.text
    alone = client.get("/compare", params={"run": ["first", "../outside"]})
    assert alone.status_code == 422
    assert "two runs at least" in alone.text


def test_strangers_are_kept_out(root: Path) -> None:
    local = TestClient(build_board(root))
    for name in ("evil.example", "127.0.0.1.evil.example", "evil.example/@127.0.0.1", "127.0.0.1@evil.example", ""):
        refused = local.get("/", headers={"Host": name})
        assert refused.status_code == 400
        assert "PEFTLAB_TOKEN" in refused.text
    for name in ("127.0.0.1:80", "LOCALHOST", "[::1]:8000", "127.0.0.2"):
        assert local.get("/", headers={"Host": name}).status_code == 200
    guarded = TestClient(build_board(root, token="a long secret", only_loopback=False))
    assert guarded.get("/").status_code == 401
    assert guarded.get("/?token=another secret").status_code == 401
    let_in = guarded.get("/?token=a long secret")
    assert let_in.status_code == 200
    assert "token" not in str(let_in.url)
    assert guarded.get("/run/first").status_code == 200
    with pytest.raises(UserError, match="no token"):
        show_board(root, address="192.0.2.1", port=0, token=None, reporter=Silent())


def test_many_runs_are_listed_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (make_run(tmp_path / "run-0") / "record.json").read_text()
    for number in range(1, PAGE + 50):
        (tmp_path / f"run-{number}").mkdir()
        (tmp_path / f"run-{number}" / "record.json").write_text(text)
    read: list[str] = []
    row = RunIndex.row
    monkeypatch.setattr(RunIndex, "row", lambda self, key: read.append(key) or row(self, key))
    client = TestClient(build_board(tmp_path))
    assert "page 1 of 2" in client.get("/").text
    assert len(read) == PAGE
    assert "page 2 of 2" in client.get("/", params={"page": 2}).text


@pytest.mark.parametrize(
    "part",
    [{"evaluation": "accuracy"}, {"task": ["text"]}, {"seed": "one"}, {"model": "tiny"}, {"seed": {"of": 1}}],
    ids=str,
)
def test_a_record_that_is_no_record_takes_no_other_run_down(root: Path, client: TestClient, part: Any) -> None:
    record = json.loads((root / "first" / "record.json").read_text())
    record["recipe"] |= part
    (root / "first" / "record.json").write_text(json.dumps(record))
    page = client.get("/")
    assert page.status_code == 200
    assert "unreadable" in page.text
    assert "bitfit" in page.text
    assert f"{next(iter(part))} is no" in client.get("/run/first").text


def test_what_is_no_number_in_a_log_is_left_out(root: Path, client: TestClient) -> None:
    lines = [
        '{"step": 1, "loss": 0.5, "epoch": [], "validation": {"accuracy": 0.25}}', '{"step": "two", "loss": 1}',
        '{"step": 3, "loss": "none"}', '{"step": 4, "loss": NaN}', f'{{"step": 5, "loss": 1{"0" * 400}}}',
        '{"step": 6, "validation": [0.5]}', '{"step": 7, "validation": {"accuracy": "high", "f1": Infinity}}',
        '{"step": 8, "loss": 0.25, "validation": {"accuracy": 0.75}}', '{"step": 9, "loss": {"a": 1}}',
    ]  # fmt: skip
    (root / "first" / "metrics.jsonl").write_text("\n".join(lines))
    page = client.get("/run/first")
    assert page.status_code == 200
    assert "accuracy <b>75.0 %</b>" in page.text
    assert page.text.count('class="curve"') == 4  # two figures, each for wide and for narrow screens


def test_predicted_numbers_are_not_called_wrong(root: Path, client: TestClient) -> None:
    rows = {"split": ["test"] * 3, "index": [0, 1, 2], "label": [1.0, 2.0, 3.0], "prediction": [1.5, 9.0, 3.25]}
    pq.write_table(pa.table(rows), root / "first" / "predictions.parquet")
    page = client.get("/run/first").text
    assert "differ from the label" not in page
    assert page.index(">9.0<") < page.index(">1.5<") < page.index(">3.25<")


def test_a_text_is_right_if_it_is_one_of_its_references(root: Path, client: TestClient) -> None:
    rows = {"split": ["test"] * 2, "index": [0, 1], "label": [["a", "b"], ["c"]], "prediction": ["b", "b"]}
    pq.write_table(pa.table(rows), root / "first" / "predictions.parquet")
    assert "1 of 2 differ" in client.get("/run/first").text


def test_scores_are_sorted_by_what_is_better_and_metric_by_metric(tmp_path: Path) -> None:
    for name, metric, score in (
        ("far", "mean_squared_error", 5.0), ("near", "mean_squared_error", 0.5), ("poor", "accuracy", 0.1),
        ("good", "accuracy", 0.9), ("none", "accuracy", None),
    ):  # fmt: skip
        folder = make_run(tmp_path / name, score=None)
        record = json.loads((folder / "record.json").read_text())
        record["recipe"]["evaluation"]["metric"] = metric
        record["scores"] = {} if score is None else {"test": {metric: score}}
        (folder / "record.json").write_text(json.dumps(record))
    page = TestClient(build_board(tmp_path)).get("/", params={"sort": "score"}).text
    places = [page.index(f'href="/run/{name}"') for name in ("good", "poor", "near", "far", "none")]
    assert places == sorted(places)


def test_the_folder_of_one_run_is_no_folder_of_runs(root: Path) -> None:
    with pytest.raises(UserError, match="folder of one run") as error:
        build_board(root / "first")
    assert str(root) in (error.value.hint or "")


def test_a_name_that_is_no_text_takes_no_other_run_down(root: Path, client: TestClient) -> None:
    odd = Path(os.fsdecode(os.fsencode(root) + b"/\xff"))
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system takes names of text alone")
    (odd / "record.json").write_text((root / "first" / "record.json").read_text())
    page = client.get("/")
    assert page.status_code == 200
    assert "/run/first" in page.text


@pytest.mark.parametrize("number", ["0", "-1", "9" * 30, str(1 << 31)])
def test_a_lock_names_a_process_or_nothing(root: Path, client: TestClient, number: str) -> None:
    """A signal to 0 or −1 would reach every process of the user."""
    fcntl = pytest.importorskip("fcntl")
    lock = root / "first" / ".lock"
    lock.write_text(f"{socket.gethostname()} {number}\n")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert client.get("/").status_code == 200
        assert at_work(root / "first").process is None


def test_a_folder_in_the_place_of_a_record_is_damage(root: Path, client: TestClient) -> None:
    (root / "first" / "record.json").unlink()
    (root / "first" / "record.json").mkdir()
    for address in ("/", "/run/first"):
        assert "unreadable" in client.get(address).text
    assert client.get("/new", params={"like": "first"}).status_code == 422


def test_a_name_in_a_log_that_cannot_be_shown_is_left_out(root: Path, client: TestClient) -> None:
    lines = [f'{{"step": {step}, "validation": {{"\\ud800": 1, "f1": 0.5}}}}' for step in (1, 2)]
    (root / "first" / "metrics.jsonl").write_text("\n".join(lines))
    page = client.get("/run/first")
    assert page.status_code == 200
    assert "f1 <b>50.0 %</b>" in page.text
