"""No verb overwrites what it did not write itself, its own input, or anything in a folder of peftlab's."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from peftlab.artifact.saved_folder import EXPORT_NAME
from peftlab.core.destination import owner_of
from peftlab.core.record import RECIPE_NAME, RECORD_NAME, SUITE_NAME
from peftlab.run.run_folder import LOCK_NAME
from tests.conftest import Command
from tests.report.fakes import METHODS, write_suite

TABLE = "text,label\na good film,good\na bad day,bad\n"


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path: Path, tiny_run: Callable[..., Path]) -> Path:
    """A working directory with a run, a table under several names, and things that are no files."""
    shutil.copytree(tiny_run(), tmp_path / "run")
    (tmp_path / "in.csv").write_text(TABLE)
    (tmp_path / "other.csv").write_text("the user's own")
    os.link(tmp_path / "in.csv", tmp_path / "hard.csv")
    (tmp_path / "symbolic.csv").symlink_to("in.csv")
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "nowhere.csv").symlink_to("gone/away.csv")
    return tmp_path


NEVER = {
    "in.csv": "inputs are never overwritten",
    "./run/../in.csv": "inputs are never overwritten",
    "hard.csv": "inputs are never overwritten",
    "symbolic.csv": "inputs are never overwritten",
    "run/predictions.parquet": "lies in the input",
    "run/new.csv": "lies in the input",
    "run/adapter/deep/er/new.csv": "lies in the input",
    "link/new.csv": "lies in the input",
    "file/new.csv": "is not a folder",
    "folder.csv": "this is a folder",
    "pipe.csv": "no plain file",
    "/proc/new.csv": "nothing can be written in /proc",
    "{data}": "inputs are never overwritten",
    "{model}/new.csv": "lies in the input",
}


@pytest.mark.parametrize("output", NEVER)
def test_what_predict_never_writes_to(
    output: str, command: Command, place: Path, reviews: Path, tiny_bert: Path
) -> None:
    before = contents(place) | contents(reviews.parent) | contents(tiny_bert)
    path = output.format(data=reviews, model=tiny_bert)
    done = command("predict", "run", "--input", "in.csv", "--output", path, "--force")
    assert done.returncode == 2
    assert NEVER[output] in done.stderr
    assert "loading" not in done.stderr
    assert contents(place) | contents(reviews.parent) | contents(tiny_bert) == before


@pytest.mark.parametrize("output", ["other.csv", "nowhere.csv"])
def test_an_existing_file_needs_force(output: str, command: Command, place: Path) -> None:
    before = contents(place)
    done = command("predict", "run", "--input", "in.csv", "--output", output)
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert contents(place) == before
    assert command("predict", "run", "--input", "in.csv", "--output", output, "--force").returncode == 0
    assert (place / output).read_text().startswith("index,text,prediction")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["explain", "run", "good", "--output", "run/record.json"], "lies in the input"),
        (["explain", "run", "good", "--output", "run/record.json", "--force"], "lies in the input"),
        (["explain", "run", "good", "--output", "other.csv"], "--force"),
        (["explain", "run", "good", "--output", "/proc/x.html"], "nothing can be written"),
        (["report", "run", "--output", "run/report.html"], "is the folder of a run"),
        (["report", "run", "--output", "run/record.json", "--force"], "inputs are never overwritten"),
        (["report", "run/record.json", "--output", "link/record.json", "--force"], "inputs are never overwritten"),
        (["report", "run", "--output", "other.csv"], "--force"),
        (["report", "run", "--output", "/proc/x.html"], "nothing can be written"),
        (["report", "run", "--output", "file/x.html"], "is not a folder"),
        (["report", "run", "--format", "csv", "--output", "other.csv"], "--force"),
        (["report", "run", "--format", "html", "--output", "new.csv"], "the ending of new.csv says csv"),
        (["report", "run", "--output", "new.json"], "Known: .html, .md, .csv; or add --format"),
        (["audit", "run", "--output", "new.csv"], "Name it new.html"),
        (["select", "run", "--pool", "othr.csv", "--count", "1", "--strategy", "margin"], "Did you mean `other.csv`?"),
        (["label", "othr.csv", "--class", "a", "--class", "b"], "Did you mean `other.csv`?"),
        (["export", "run", "--format", "onix", "--output", "x"], "Did you mean 'onnx'?"),
        (["export", "run", "--format", "merged", "--output", "run/merged"], "lies in the input"),
        (["export", "run", "--format", "merged", "--output", "file/x"], "is not a folder"),
        (["export", "run", "--format", "merged", "--output", "/proc/x"], "nothing can be written"),
        (["predict", "run", "good", "--output", "run"], "this is a folder"),
        (["reproduce", "rum"], "rum: no such folder\n  Did you mean `run`?"),
        (["reproduce", "run", "--output-dir", "run/again"], "is the folder of a run"),
        (["reproduce", "run", "--output-dir", "run"], "not empty"),
        (["run", "run/recipe.yaml", "--output-dir", "link/again"], "is the folder of a run"),
        (["run", "run/recipe.yaml", "--output-dir", "/proc/again"], "nothing can be written"),
        (["run", "run/recipe.yaml", "--output-dir", "file/again"], "is not a folder"),
        (["run", "run/recipe.yaml", "--output-dir", "-"], "--output-dir -: `-` is no name"),
        (["init", "in.csv", "--output", "-"], "--output -: `-` is no name"),
    ],
)
def test_other_verbs(words: list[str], reason: str, command: Command, place: Path) -> None:
    before = contents(place)
    done = command(*words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert contents(place) == before


def test_a_report_is_made_anew_over_itself_only(command: Command, place: Path) -> None:
    for _ in range(2):
        assert command("report", "run", "--output", "page.html").returncode == 0
        assert command("report", "run").returncode == 0
    (place / "report.html").write_text("<html>mine</html>")
    assert command("report", "run").returncode == 2
    assert command("report", "run", "--force").returncode == 0
    assert command("report", "run", "--output", "page.md").returncode == 0
    assert command("report", "run", "--output", "page.md").returncode == 2


def test_folders_that_are_peftlabs_own(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", METHODS[:1], examples=20)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / EXPORT_NAME).write_text("{}")
    (tmp_path / "at_work").mkdir()
    for name in (RECIPE_NAME, LOCK_NAME):
        (tmp_path / "at_work" / name).write_text("")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / RECORD_NAME).write_text("{}")
    (tmp_path / "pack").mkdir()
    for name in (SUITE_NAME, "records.jsonl"):
        (tmp_path / "pack" / name).write_text("")
    (tmp_path / "mine").mkdir()
    for name in (RECIPE_NAME, SUITE_NAME):
        (tmp_path / "mine" / name).write_text("")
    for inside in (
        "suite/cells/new.csv",
        "suite/tuning/x/new.csv",
        "export/new.csv",
        "at_work/new.csv",
        "done/a/b.csv",
        "pack/report.html",
    ):
        assert owner_of(tmp_path / inside) is not None, inside
    for outside in ("suite/report.html", "mine/new.csv", "mine/results/new.csv", "new.csv"):
        assert owner_of(tmp_path / outside) is None, outside
    assert owner_of(suite) is None


def test_a_folder_with_a_recipe_of_the_users_is_no_run(command: Command, place: Path) -> None:
    (place / "mine").mkdir()
    shutil.copy(place / "run" / "recipe.yaml", place / "mine" / "recipe.yaml")
    (place / "mine" / "thesis.tex").write_text("years of work")
    before = contents(place)
    done = command("run", "mine/recipe.yaml", "--output-dir", "mine", "--resume")
    assert done.returncode == 2
    assert "no run in this folder" in done.stderr
    assert contents(place) == before


def test_a_refused_run_leaves_the_folder_that_was_there(command: Command, place: Path) -> None:
    (place / "alone").mkdir()
    shutil.copy(place / "run" / "recipe.yaml", place / "alone" / "recipe.yaml")
    command("run", "alone/recipe.yaml", "--output-dir", "alone", "--resume", "--set", "method.target_modules=[nothing]")
    assert (place / "alone" / "recipe.yaml").read_bytes() == (place / "run" / "recipe.yaml").read_bytes()


def test_bench_takes_no_folder_of_the_users(command: Command, place: Path) -> None:
    suite = "name: s\nrecipe: run/recipe.yaml\nmethods: [{type: lora}]\nseeds: [0]\ntuning: null\n"
    (place / "suite.yaml").write_text(suite)
    (place / "new").mkdir()
    before = contents(place)
    for folder, reason in {
        ".": "holds other things",
        "file": "is a file",
        "run/bench": "the folder of a run",
        "run": "holds other things",
        "/proc/x": "nothing can be written",
    }.items():
        done = command("bench", "suite.yaml", "--output-dir", folder, "--dry-run")
        assert (done.returncode, reason in done.stderr) == (2, True), (folder, done.stderr)
        assert contents(place) == before
    assert command("bench", "suite.yaml", "--output-dir", "new", "--dry-run").returncode == 0


def test_resume_on_nothing_says_that_it_starts(command: Command, place: Path) -> None:
    done = command("run", "run/recipe.yaml", "--output-dir", "fresh", "--resume", "--set", "training.max_steps=2")
    assert "starts from the beginning" in done.stderr
    assert done.returncode == 0


def test_links_in_a_circle_are_no_place(command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = command("report", tiny_run(), "--output", tmp_path / "loop" / "x.html")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
