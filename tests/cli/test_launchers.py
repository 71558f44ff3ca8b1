"""Started by a launcher as one of several processes, peftlab refuses: each would do the same work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SUITE = """\
name: pair
recipe: recipe.yaml
methods: [{type: linear_probe}]
seeds: [0]
tuning: null
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORLD_SIZE", "2"),
        ("WORLD_SIZE", " 16 "),
        ("PMI_SIZE", "4"),
        ("OMPI_COMM_WORLD_SIZE", "2"),
        ("MV2_COMM_WORLD_SIZE", "3"),
        ("SLURM_STEP_NUM_TASKS", "8"),
    ],
)
def test_one_of_several_processes_is_refused(
    name: str, value: str, command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    done = command("run", recipe, "--output-dir", "out", "--json")
    assert done.returncode == 2
    assert f"the variable {name}: this is one of {int(value)} processes" in done.stderr
    assert f"unset {name}" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["two", "2.0", "-1"])
def test_what_is_no_number_is_said_to_be_none(value: str, command, recipe: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", value)
    done = command("run", recipe, "--output-dir", "out")
    assert done.returncode == 2
    assert f"the variable WORLD_SIZE: `{value}` is no number of processes" in done.stderr


@pytest.mark.parametrize("value", ["inf", "nan", "0", "604801"])
def test_a_time_that_cannot_be_waited_is_refused(value: str, command, recipe: Path) -> None:
    done = command("run", recipe, "--processes", 2, "--process-timeout", value)
    assert done.returncode == 2
    assert "--process-timeout" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("value", ["", "1"])
def test_one_process_runs(value: str, command, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", value)
    done = command("run", recipe, "--output-dir", "out", "--set", "training.max_steps=2")
    assert done.returncode == 0, done.stderr


def test_other_verbs_that_work_refuse_too(
    command, recipe: Path, tiny_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_run()
    (recipe.parent / "suite.yaml").write_text(SUITE)
    for line in (
        ("bench", "suite.yaml", "--output-dir", "bench"),
        ("predict", folder, "a good day"),
        ("export", folder, "--format", "merged", "--output", "model"),
        ("reproduce", folder),
    ):
        monkeypatch.setenv("WORLD_SIZE", "2")  # each call of the command puts the environment back
        done = command(*line)
        assert done.returncode == 2, (line, done.stderr)
        assert "this is one of 2 processes" in done.stderr
    assert not (tmp_path / "bench" / "cells").exists()
    assert not (tmp_path / "model").exists()


def test_verbs_that_only_look_do_not_care(command, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (("validate", recipe), ("ls", "methods")):
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert command(*line).returncode == 0
