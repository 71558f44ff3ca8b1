"""`peftlab report` from the command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "report"))

from fakes import METHODS, FakeData, write_run, write_suite

FULL, LORA, *_ = METHODS


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path / "tweets", METHODS[:4], examples=300)


def test_a_page_and_a_summary(command, suite: Path, tmp_path: Path) -> None:
    done = command("report", "tweets")
    assert done.returncode == 0, done.stderr
    assert "best" in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[-1].split() == ["report", "report.html"]
    assert (tmp_path / "report.html").read_text().startswith("<!-- peftlab report -->")
    again = command("report", "tweets")
    assert again.returncode == 0


def test_a_file_of_the_users_is_not_overwritten_unasked(command, suite: Path, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("my thesis")
    done = command("report", "tweets")
    assert done.returncode == 2
    assert "not a report of peftlab" in done.stderr
    assert (tmp_path / "report.html").read_text() == "my thesis"


def test_json_is_one_object_and_nothing_else(command, suite: Path, tmp_path: Path) -> None:
    done = command("report", "tweets", "--json")
    found = json.loads(done.stdout)
    assert {"groups", "methods", "excluded"} <= set(found)
    assert set(found["methods"]) == {method.name for method in METHODS[:4]} == {n for g in found["groups"] for n in g}
    best = found["methods"][found["groups"][0][0]]
    assert best["interval"][0] < best["mean"] < best["interval"][1]
    assert best["mean"] == max(method["mean"] for method in found["methods"].values())
    assert best["cost"]["peak_memory_bytes"] > 0
    assert not (tmp_path / "report.html").exists()
    both = command("report", "tweets", "--json", "--output", "x/page.html")
    assert json.loads(both.stdout)["groups"] == found["groups"]
    assert (tmp_path / "x" / "page.html").exists()


@pytest.mark.parametrize(("form", "start"), [("markdown", "# tweet-sentiment"), ("csv", "comparison,method,rank")])
def test_other_formats_go_to_standard_output_or_a_file(
    command, suite: Path, tmp_path: Path, form: str, start: str
) -> None:
    done = command("report", "tweets", "--format", form)
    assert done.stdout.startswith(start)
    name = {"markdown": "out.md", "csv": "out.csv"}[form]
    assert command("report", "tweets", "--output", name).returncode == 0
    assert (tmp_path / name).read_text().startswith(start)


def test_which_one_for_me(command, suite: Path) -> None:
    done = command("report", "tweets", "--max-memory", "800MB", "--max-seconds", "1000", "--max-loss", "20")
    assert "fit, and lose at most 20 points" in done.stdout
    assert "peak memory" in done.stdout
    none = command("report", "tweets", "--max-memory", "1MB")
    assert "No method fits these limits." in none.stdout
    choice = json.loads(command("report", "tweets", "--json", "--max-memory", "800MB").stdout)["comparisons"][0][
        "choice"
    ]
    assert "full" not in choice["methods"]


def test_paths_are_shown_from_where_the_page_lies(command, suite: Path, tmp_path: Path) -> None:
    assert command("report", suite, "--output", suite / "report.html").returncode == 0
    page = (suite / "report.html").read_text()
    assert "peftlab reproduce cells/lora--seed0" in page
    assert str(tmp_path) not in page


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "there is no such folder"),
        (["."], "there is no readable record here"),
        (["tweets", "--metric", "acuracy"], "Did you mean `accuracy`?"),
        (["tweets", "--max-memory", "lots"], "is no size"),
        (["tweets", "--format", "pdf"], "pdf"),
        (["tweets", "--max-loss", "-1"], "max-loss"),
        ([], "DIR"),
    ],
)
def test_wrong_input_is_a_message(command, tmp_path: Path, arguments: list[str], reason: str) -> None:
    if "tweets" in arguments:
        write_suite(tmp_path / "tweets", [LORA], examples=50)
    done = command("report", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_an_error_is_an_object_too(command) -> None:
    done = command("report", "nowhere", "--json")
    assert done.returncode == 2
    assert "no such folder" in json.loads(done.stdout)["error"]["message"]


def test_what_is_left_out_is_told(command, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", LORA, 0, FakeData(50))
    write_run(tmp_path / "runs" / "b", FULL, 0, FakeData(50))
    (tmp_path / "runs" / "b" / "record.json").write_text("{")
    done = command("report", "runs")
    assert done.returncode == 0
    assert "Left out: runs/b: the record is damaged" in done.stdout
    excluded = json.loads(command("report", "runs", "--json").stdout)["excluded"]
    assert [item["path"] for item in excluded] == ["runs/b"]
    rows = list(csv.DictReader(command("report", "runs", "--format", "csv").stdout.splitlines()))
    assert [row["paths"] for row in rows] == ["runs/a", "runs/b"]


def test_neither_help_nor_a_report_imports_torch(suite: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom peftlab.cli.app import main\n"
        "for line in ('--help', 'tweets', 'tweets --json --metric macro_f1'):\n"
        "    sys.argv = ['peftlab', 'report', *line.split()]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        print(line, end.code or 0, file=sys.stderr)\n"
        "    print(sorted({'torch', 'peft', 'transformers', 'sklearn'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in ("--help", "tweets", "tweets --json --metric macro_f1"):
        assert f"{line} 0\n[]\n" in done.stderr, done.stderr
