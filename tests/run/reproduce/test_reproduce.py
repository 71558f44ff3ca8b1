"""`peftlab reproduce` on real runs: of a folder, and of a cell in a pack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftlab.core.record import read_record, write_record
from tests.conftest import Command

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path: Path, tiny_run: Callable[..., Path]) -> Path:
    return Path(shutil.copytree(tiny_run(), tmp_path / "runs" / "tiny"))


def elsewhere(run: Path) -> None:
    """As if the record were of another machine."""
    record = read_record(run)
    write_record(record.model_copy(update={"environment": {**record.environment, "threads": 99}}), run)


def test_a_run_and_a_packed_cell(command: Command, run: Path, tmp_path: Path) -> None:
    done = command("reproduce", run, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["agrees"], told["verdict"]) == (True, "agrees")
    assert {figure["verdict"] for figure in told["figures"]} == {"identical"}
    assert {"test predictions", "validation predictions"} <= {figure["name"] for figure in told["figures"]}

    suite = tmp_path / "suite"
    shutil.copytree(run, suite / "cells" / "lora--seed0")
    (suite / "suite.yaml").write_text(
        "name: s\nrecipe: x.yaml\nmethods: [{type: lora}]\nseeds: [0]\ntuning: null\n", encoding="utf-8"
    )
    done = command("reproduce", suite, "lora--seed0", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    packed = command("pack", suite, "--output-dir", tmp_path / "pack")
    assert packed.returncode == 0, packed.stderr
    for named in (["pack", "lora--seed0"], ["pack/cells/lora--seed0"]):
        done = command("reproduce", *named, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["verdict"] == "agrees"


def test_planted_changes(command: Command, run: Path) -> None:
    elsewhere(run)
    done = command("reproduce", run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == "the record agrees"
    assert "another environment (threads" in done.stdout

    table = pq.read_table(run / "predictions.parquet")
    first, second = sorted(set(table["prediction"].to_pylist()))[:2]
    shifted = [second if said == first else said for said in table["prediction"].to_pylist()]
    at = table.column_names.index("prediction")
    pq.write_table(table.set_column(at, "prediction", pa.array(shifted)), run / "predictions.parquet")
    done = command("reproduce", run, "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["agrees"], told["verdict"]) == (False, "differs")

    pq.write_table(table.slice(3), run / "predictions.parquet")
    done = command("reproduce", run)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "the record does NOT agree"

    (run / "predictions.parquet").unlink()
    record = read_record(run)
    scores = {split: {name: value - 0.01 for name, value in found.items()} for split, found in record.scores.items()}
    write_record(record.model_copy(update={"scores": scores}), run)
    done = command("reproduce", run)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "it cannot be judged whether the record agrees"
    assert "the record has no predictions of the test split" in done.stdout
