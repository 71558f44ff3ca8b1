"""A reader that leaves ends a verb quietly, with the exit code that a shell knows; work that is recorded goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.forks import Fork
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

READER_LEFT = 141


def read_a_line(*words: Any, folder: Path, lines: int = 1) -> tuple[int, str]:
    """Start `peftlab` in a fresh process, read so many lines of its output, close the pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "peftlab", *map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    return process.wait(timeout=PATIENCE), errors


def read_a_line_of_fork(*words: Any, folder: Path, lines: int = 1) -> tuple[int, str]:
    """The same of a fork, for verbs that would import a lot."""
    reading, writing = os.pipe()
    errors = folder / "errors.txt"
    with errors.open("wb") as file:
        fork = Fork(words, folder=folder, stdout=writing, stderr=file)
    os.close(writing)
    with os.fdopen(reading) as output:
        for _ in range(lines):
            output.readline()
    return fork.wait(PATIENCE), errors.read_text()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "many.csv"
    path.write_text("text,label\n" + "".join(f"the film was good {number},good\n" for number in range(2000)))
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "{run}", "--input", "{table}"],
        ["predict", "{run}", "--input", "{table}", "--json"],
    ],
)
def test_output_that_is_cut_off(words: list[str], tiny_run: Callable[..., Path], table: Path) -> None:
    words = [word.format(run=tiny_run(), table=table) for word in words]
    code, errors = read_a_line_of_fork(*words, folder=table.parent)
    assert code == READER_LEFT
    assert "defect" not in errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["ls", "methods"],
        ["schema", "recipe"],
        ["evaluate", "{run}", "--data", "{table}"],
        ["report", "{run}", "--json"],
    ],
)
def test_output_that_nobody_reads(words: list[str], tiny_run: Callable[..., Path], table: Path) -> None:
    words = [word.format(run=tiny_run(), table=table) for word in words]
    read = read_a_line_of_fork if words[0] == "evaluate" else read_a_line
    code, errors = read(*words, folder=table.parent, lines=0)
    assert code == READER_LEFT
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_a_run_goes_on_when_nobody_reads_what_it_says(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tiny_run() / "recipe.yaml"
    reading, writing = os.pipe()
    os.close(reading)
    words = ["run", recipe, "--output-dir", "out", "--set", "training.max_steps=3"]
    output = tmp_path / "output.txt"
    with output.open("wb") as file:
        fork = Fork(words, folder=tmp_path, stdout=file, stderr=writing)
    os.close(writing)
    assert fork.wait(PATIENCE) == 0
    assert "success" in output.read_text()


def test_a_full_disk_and_no_output_at_all(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "peftlab", "ls", "tasks"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    closed = subprocess.run(["sh", "-c", f"{' '.join(command)} >&-"], stderr=subprocess.PIPE, text=True)
    assert (closed.returncode, closed.stderr) == (0, "")
