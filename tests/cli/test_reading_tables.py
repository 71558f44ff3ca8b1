"""New tables of every kind, by `predict` and `evaluate`: the same answers, and hints that name options they have."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import sentences

ROWS = sentences(30, seed=7)


@pytest.fixture(scope="module")
def run(tiny_run: Callable[..., Path]) -> Path:
    return tiny_run()


def semicolons(folder: Path) -> Path:
    path = folder / "a.csv.gz"
    path.write_bytes(gzip.compress(("\ufefflabel;text\n" + "".join(f"{b};{a}\n" for a, b in ROWS)).encode()))
    return path


def excel(folder: Path) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    for row in [("text", "label"), *ROWS]:
        book.active.append(row)
    book.save(folder / "a.xlsx")
    return folder / "a.xlsx"


def saved(folder: Path) -> Path:
    import datasets

    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    datasets.Dataset.from_dict(columns).save_to_disk(folder / "saved")
    return folder / "saved"


def wrapped(folder: Path) -> Path:
    path = folder / "a.json"
    path.write_text(json.dumps({"version": 1, "data": [{"text": text, "label": label} for text, label in ROWS]}))
    return path


@pytest.mark.parametrize("write", [semicolons, excel, saved, wrapped])
def test_every_table_gives_the_same_answers(write: Callable[[Path], Path], command, run: Path, tmp_path: Path) -> None:
    path = write(tmp_path)
    expected = command("predict", run, *(text for text, _ in ROWS)).stdout
    assert command("predict", run, "--input", path).stdout == expected
    scored = json.loads(command("evaluate", run, "--data", path, "--json").stdout)
    assert scored["rows"] == len(ROWS)


def test_a_folder_for_each_class_is_scored(command, run: Path, tmp_path: Path) -> None:
    for number, (text, label) in enumerate(ROWS):
        (tmp_path / "texts" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / label / f"{number}.txt").write_text(text)
    scored = json.loads(command("evaluate", run, "--data", tmp_path / "texts", "--json").stdout)
    assert scored["rows"] == len(ROWS)


@pytest.mark.parametrize(
    ("content", "expected", "mended"),
    [
        (b"text~label\nhi~good\n", "--read delimiter=", ["--read", "delimiter=~"]),
        (b'text\n"hi" she said\nyes\n', "--read quoting=false", ["--read", "quoting=false"]),
        (
            b"hi, there\ngood, day\n",
            "--read header=false",
            ["--read", "header=false", "--read", "column_names=[text, b]"],
        ),
        ("text\nsch\u00f6n\n".encode("cp1252"), "--read encoding=", ["--read", "encoding=cp1252"]),
        ("text\nsch\u00f6n\n".encode("cp1252"), "--read encoding=", ["--encoding", "cp1252"]),
    ],
)
def test_hints_name_options_that_mend_it(
    content: bytes, expected: str, mended: list[str], command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    failed = command("predict", run, "--input", tmp_path / "a.csv")
    assert failed.returncode == 2
    assert "data." not in failed.stderr
    if "header" not in expected:
        assert expected in failed.stderr
    done = command("predict", run, "--input", tmp_path / "a.csv", *mended)
    assert done.returncode == 0, done.stderr


def test_utf_8_is_not_read_as_another_encoding(command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nsch\u00f6n\n", encoding="utf-8")
    failed = command("predict", run, "--input", tmp_path / "a.csv", "--encoding", "mac-roman")
    assert failed.returncode == 2
    assert "is UTF-8, and mac-roman would garble it" in failed.stderr
