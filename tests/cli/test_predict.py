"""`predict` and `evaluate`: texts, tables of any size, standard input; calibrated scores; and what bad input gets."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftlab.data.streaming import CHUNK_ROWS
from peftlab.tasks.token_classification import find_entities
from tests.conftest import GOOD, sentences

pytestmark = pytest.mark.slow

ROWS = sentences(60, seed=5)


@pytest.fixture(scope="module")
def run(tiny_run: Callable[..., Path]) -> Path:
    return tiny_run()


def as_file(kind: str, folder: Path) -> Path:
    path = folder / f"new.{kind}"
    if kind == "csv":
        path.write_text("label,text\n" + "".join(f'{label},"{text}"\n' for text, label in ROWS))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS))
    else:
        columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
        pq.write_table(pa.table(columns), path, row_group_size=7)
    return path


def test_every_way_in_gives_the_same_answers(command, run: Path, tmp_path: Path, monkeypatch) -> None:
    texts = [text for text, _ in ROWS]
    by_arguments = json.loads(command("predict", run, *texts, "--json").stdout)["predictions"]
    assert [answer["text"] for answer in by_arguments] == texts
    monkeypatch.setattr("peftlab.data.streaming.CHUNK_ROWS", 16)
    for kind in ("csv", "jsonl", "parquet"):
        done = command(
            "predict", run, "--input", as_file(kind, tmp_path), "--output", tmp_path / "out.jsonl", "--force", "--json"
        )
        assert json.loads(done.stdout)["rows"] == len(ROWS), done.stderr
        answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        for answer, expected in zip(answers, by_arguments, strict=True):
            assert answer["scores"] == pytest.approx(expected["scores"], abs=1e-5)
            assert {**answer, "scores": 0, "score": 0} == {**expected, "scores": 0, "score": 0}
    piped = "".join(f"{text}\n" for text in texts)
    for words, data in (([], piped), (["-"], piped), (["--input", "-", "--format", "csv"], "text\n" + piped)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.encode())))
        lines = command("predict", run, *words).stdout.splitlines()
        assert [line.split("\t")[0] for line in lines] == [answer["prediction"] for answer in by_arguments]


def test_files_that_are_written(command, run: Path, tmp_path: Path) -> None:
    source = as_file("csv", tmp_path)
    for name in ("out.csv", "out.parquet"):
        assert command("predict", run, "--input", source, "--output", name).returncode == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["prediction"] for row in rows] == [row["prediction"] for row in table]
    assert json.loads(rows[0]["scores"]) == table[0]["scores"]


def test_evaluate_gives_intervals_and_calibration(command, run: Path, tmp_path: Path) -> None:
    found = json.loads(command("evaluate", run, "--data", as_file("jsonl", tmp_path), "--json").stdout)
    assert found["rows"] == len(ROWS)
    low, high = found["intervals"]["accuracy"]
    assert low <= found["scores"]["accuracy"] <= high
    assert found["intervals"]["auroc"] is None
    record = json.loads((run / "record.json").read_text())
    calibration = record["calibration"]
    assert found["temperature"] == calibration["temperature"]
    assert (calibration["not_fitted"] is None) == (calibration["temperature"] != 1)  # none from separable data
    assert 0 <= found["expected_calibration_error"] <= 1
    assert found["notes"] == []
    few, rare = tmp_path / "few.jsonl", ROWS[0][1]
    rows = [*[row for row in ROWS if row[1] == rare][:4], *(row for row in ROWS if row[1] != rare)]
    few.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    shown = command("evaluate", run, "--data", few).stdout
    assert f"Note: The class {rare} has 4 examples in few.jsonl. With fewer than 10 of a class" in shown
    few.write_text("".join(json.dumps({"text": text, "label": rare}) + "\n" for text, label in rows if label == rare))
    shown = command("evaluate", run, "--data", few).stdout
    assert f"Note: matthews says nothing of the model on these rows: every example is of the class {rare!r}." in shown


def test_calibration_helps_where_it_was_fitted(run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    error = record["calibration"]["expected_calibration_error"]
    assert set(error) == {"validation", "test"}
    assert all(0 <= value <= 1 for each in error.values() for value in each.values())


def test_entities_have_spans(command, tiny_run: Callable[..., Path], entities: Path) -> None:
    run = tiny_run(task="{type: token_classification, max_length: 32}", data=entities, steps=200)
    texts = [text.replace(" ", "  ") for text, _ in ROWS]
    answers = json.loads(command("predict", run, *texts, "--json").stdout)["predictions"]
    found = 0
    for text, answer in zip(texts, answers, strict=True):
        assert len(answer["prediction"]) == len(text.split())
        for entity in answer["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["text"]
            assert text.split()[entity["first_word"] : entity["end_word"]] == entity["text"].split()
            found += entity["type"] == "GOOD" and entity["text"] in GOOD
    assert found > 5


def test_entities_by_their_tags() -> None:
    tags, scores = ["O", "B-X", "I-X", "O", "B-Y"], [0.9, 0.8, 0.7, 0.9, 0.6]
    first, second = find_entities("a  bc d e\tf", tags, scores)
    assert first == {"type": "X", "score": 0.7, "first_word": 1, "end_word": 3, "text": "bc d", "start": 3, "end": 7}
    assert (second["text"], second["start"]) == ("f", 10)
    assert find_entities(["a", "bc", "d", "e", "f"], tags, scores)[0]["text"] == "bc d"


def test_a_text_that_is_cut_is_said_to_be(command, run: Path) -> None:
    done = command("predict", run, "the film " * 40, "a film", "--json")
    assert [answer["truncated"] for answer in json.loads(done.stdout)["predictions"]] == [True, False]
    assert "longer than 32 tokens" in done.stderr


def test_a_bad_row_ends_the_object_after_the_answers_before_it(command, run: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"a film {row}"}) for row in range(CHUNK_ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, json.dumps({"text": None})]))
    done = command("predict", run, "--input", tmp_path / "rows.jsonl", "--json")
    assert done.returncode == 2
    printed = json.loads(done.stdout)
    assert [answer["index"] for answer in printed["predictions"]] == list(range(CHUNK_ROWS))
    assert f"row {CHUNK_ROWS + 1}" in printed["error"]["message"]


@pytest.mark.parametrize(
    ("words", "content", "expected"),
    [
        (["predict", "{run}", "--input", "{file}"], "txet\nhello\n", ["no column `text`", "Did you mean `txet`?"]),
        (["predict", "{run}", "--input", "{file}"], "", ["empty"]),
        (["predict", "{run}", "--input", "{file}"], "text\n", ["no rows"]),
        (["predict", "{run}", "--input", "{file}"], "text,x\na,b\nc\n", ["line 3"]),
        (["predict", "{run}", "--input", "{file}", "--encoding", "utf-9"], "text\na\n", ["utf-9", "Did you mean"]),
        (["predict", "{run}", "--input", "{file}", "--format", "xlsx"], "text\na\n", ["xlsx"]),
        (["predict", "{run}", "--input", "nothing.csv"], "", ["no such file"]),
        (["predict", "{run}", "--input", "{folder}/fiel.csv"], "", ["no such file", "Did you mean `file.csv`?"]),
        (["explain", "{run}", ""], "", ["the text is empty", "Give it behind the run"]),
        (["predict", "{run}", "a", "--input", "{file}"], "text\na\n", ["both"]),
        (["predict", "{run}", "a", "--read", "header=false"], "", ["--read", "there is none: it has no effect"]),
        (["predict", "{run}", "a", "--output", "out.txt"], "", ["ending"]),
        (["predict", "{run}x", "a"], "", ["no such folder"]),
        (["predict", "{folder}", "a"], "", ["no record.json"]),
        (["evaluate", "{run}", "--data", "{file}", "--read", "sheet=b"], "text,label\na,b\n", ["--read sheet"]),
        (["evaluate", "{run}", "--data", "{file}"], "text\na\n", ["no column `label`"]),
        (["evaluate", "{run}", "--data", "{file}"], "text,label\na,odd\n", ["'odd'", "row 1"]),
        (["export", "{run}", "--format", "merged", "--output", "{folder}"], "x", ["not empty"]),
        (["serve", "{run}", "--host", "192.0.2.1"], "", ["PEFTLAB_TOKEN"]),
        (["serve", "{run}", "{run}"], "", ["two runs are called"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input(words: list[str], content: str, expected: list[str], command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(content)
    done = command(*[word.format(run=run, file=tmp_path / "file.csv", folder=tmp_path) for word in words])
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for text in expected:
        assert text in done.stderr
    assert {item.name for item in tmp_path.iterdir()} == {"file.csv"}


def test_help_stays_light() -> None:
    code = (
        "import sys\nfrom peftlab.cli.app import main\n"
        "for verb in ('predict', 'evaluate', 'export', 'serve', 'explain', 'push'):\n"
        "    sys.argv = ['peftlab', verb, '--help']\n    try: main()\n    except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'peft', 'transformers', 'fastapi', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("HEAVY []"), done.stdout + done.stderr
