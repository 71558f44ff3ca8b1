"""A folder without the right to write is the user's to mend: said by its name, with exit code 2, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.fakes import METHODS, write_suite

# root may write wherever it likes, unless it gives that up
AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(AS_OTHERS) and shutil.which("setpriv") is None, reason="root needs setpriv"),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that can be read only, with a suite's, an empty one and a table in it, and one beside it to work in."""
    place = tmp_path / "place"
    write_suite(place / "suite", METHODS)
    (place / "empty").mkdir()
    (place / "rows.csv").write_text("text,label\na good film,good\na bad day,bad\n")
    (tmp_path / "work").mkdir()
    folders = [place, place / "suite", place / "empty"]
    for folder in folders:
        folder.chmod(0o555)
    yield place
    for folder in folders:
        folder.chmod(0o755)


def call(*words: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [*AS_OTHERS, sys.executable, "-m", "peftlab", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pack", "{place}/suite", "--json"], "--output-dir"),
        (["pack", "{place}/suite", "--output-dir", "{place}/pack"], "--output-dir {place}/pack"),
        (["pack", "{place}/suite", "--output-dir", "{place}/empty"], "--output-dir {place}/empty"),
        (["report", "{place}/suite", "--output", "{place}/report.html"], "--output {place}/report.html"),
        (["init", "{place}/rows.csv", "--output", "{place}/recipe.yaml"], "--output {place}/recipe.yaml"),
        (["bench", "{place}/suite/suite.yaml", "--output-dir", "{place}/empty"], "--output-dir {place}/empty"),
    ],
    ids=lambda words: " ".join(words[:1] + words[-1:]) if isinstance(words, list) else "",
)
def test_a_folder_that_may_only_be_read(words: list[str], said: str, place: Path) -> None:
    before = sorted(place.rglob("*"))
    done = call(*[word.format(place=place) for word in words], folder=place.parent / "work")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "nothing can be written in" in done.stderr
    assert "Permission denied" in done.stderr
    assert said.format(place=place) in done.stderr
    assert "Traceback" not in done.stderr
    if "--json" in words:
        assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert sorted(place.rglob("*")) == before


def test_a_suite_that_may_only_be_read_is_packed_elsewhere(place: Path) -> None:
    work = place.parent / "work"
    done = call("pack", place / "suite", "--output-dir", "pack", folder=work)
    assert done.returncode == 0, done.stderr
    assert (work / "pack" / "records.jsonl").is_file()


def test_an_empty_folder_takes_a_suite_although_nothing_may_be_written_beside_it(place: Path) -> None:
    (place / "empty").chmod(0o755)
    words = ["bench", place / "suite" / "suite.yaml", "--output-dir", place / "empty", "--dry-run", "--offline"]
    done = call(*words, folder=place.parent / "work")
    assert "nothing can be written" not in done.stderr
