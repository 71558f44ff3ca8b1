"""The real command on a tiny suite: what is missing runs, what is there stays, whatever is killed or fails."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.bench.cells import expand_cells
from peftlab.bench.execute import SECONDS_NAME, Execution, _outcome
from peftlab.bench.suite import load_suite
from peftlab.bench.tuning import trial_recipe
from peftlab.core.record import RunRecord, read_record
from tests.bench.orphans import wait_until_none_runs_in
from tests.conftest import REPOSITORY, Command
from tests.forks import Fork
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

RECIPE = """\
name: tiny
model: {{path: {model}}}
task: {{type: text_classification, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.2}}
method: {{type: lora, rank: 4, alpha: 8}}
training: {{epochs: 1, batch_size: 8}}
measure: false
"""
SUITE = """\
name: tiny
recipe: recipe.yaml
methods:
  - {type: linear_probe}
  - {name: refused, type: lora, target_modules: [no_such_module]}
  - {type: bitfit}
seeds: [0, 1]
tuning: null
"""


Bench = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def suite(tmp_path: Path, tiny_bert: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=tiny_bert, data=reviews))
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    # The processes find no bitsandbytes, which no run here needs: its import takes longer than such a run.
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys\nsys.modules['bitsandbytes'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return path


def start(suite: Path, *options: str) -> Fork:
    """A suite in a process that can be stopped; each of its runs is a fresh process."""
    words = ["bench", suite, "--output-dir", suite.parent / "out", *options]
    with errors_of(suite).open("wb") as errors:
        return Fork(words, folder=suite.parent, stdout=errors, stderr=errors)


def errors_of(suite: Path) -> Path:
    return suite.parent / "errors.txt"


@pytest.fixture
def bench(suite: Path, command: Command, forked_runs: None) -> Bench:
    """The command in this process, where nobody kills it: its runs have processes of their own all the same."""

    def run(*options: str) -> tuple[int, dict[str, Any], str]:
        done = command("bench", suite, "--output-dir", suite.parent / "out", "--json", *options)
        return done.returncode, json.loads(done.stdout), done.stderr

    return run


def stamps(suite: Path) -> dict[str, str]:
    return {path.parent.name: read_record(path).started_at for path in suite.parent.glob("out/cells/*/record.json")}


def test_a_suite_from_its_start_to_a_changed_cell(suite: Path, bench: Bench) -> None:
    code, shown, _ = bench("--dry-run")
    assert (code, shown["missing"], shown["done"]) == (0, 6, 0)
    refused = {cell["cell"]: cell["refused"] for cell in shown["cells"] if cell["refused"]}
    assert list(refused) == ["refused"]
    assert "no_such_module" in refused["refused"]
    assert not (suite.parent / "out").exists()

    # A suite that is killed loses the running run at most.
    kill_in_second_run(suite)
    first = stamps(suite)
    assert set(first) == {"linear_probe--seed0"}

    # It goes on from there. One cell fails: it is a record with its reason, and the others go on.
    code, result, _ = bench("--workers", "2")
    assert code == 1
    assert result["statuses"] == {"success": 4, "failed": 2}
    before = stamps(suite)
    assert before["linear_probe--seed0"] == first["linear_probe--seed0"]
    refused = read_record(suite.parent / "out/cells/refused--seed0")
    assert "no_such_module" in str(refused.error)
    assert "Traceback" not in str(refused.error)
    report = (suite.parent / "out/report.html").read_text()
    assert "linear_probe" in report
    assert "no_such_module" in report

    # Nothing is missing: nothing runs.
    code, result, _ = bench()
    assert result["runs"] == 0
    assert stamps(suite) == before

    # A changed method runs again, the others stay; what was there is put aside, not lost.
    suite.write_text(SUITE.replace("{type: bitfit}", "{type: bitfit, set: {training.learning_rate: 2e-2}}"))
    _, result, _ = bench()
    assert result["runs"] == 2
    assert {name for name, at in stamps(suite).items() if at != before.get(name)} == {"bitfit--seed0", "bitfit--seed1"}
    assert len(list(suite.parent.glob("out/replaced/bitfit--seed*"))) == 2

    # A method that is no longer in the suite is not in its report either.
    suite.write_text(SUITE.replace("  - {name: refused, type: lora, target_modules: [no_such_module]}\n", ""))
    _, result, _ = bench()
    assert "refused" not in (suite.parent / "out/report.html").read_text()
    assert result["statuses"] == {"success": 4}


def kill_in_second_run(suite: Path) -> None:
    """Start a suite, and kill it when its second run has begun; on Linux no process of it goes on."""
    process = start(suite)
    deadline = time.monotonic() + PATIENCE
    while not stamps(suite) and time.monotonic() < deadline:
        time.sleep(0.2)
    second = suite.parent / "out/cells/refused--seed0"
    while not second.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    wait_until_none_runs_in(suite.parent)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_a_suite_that_can_be_resumed(suite: Path, bench: Bench, number: signal.Signals) -> None:
    process = start(suite)
    deadline = time.monotonic() + PATIENCE
    while not (suite.parent / "out/cells/linear_probe--seed0").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 1
    errors = errors_of(suite).read_text()
    assert "The same command goes on from here" in errors
    assert "Traceback" not in errors
    code, shown, _ = bench("--dry-run")
    assert code == 0
    assert shown["missing"] >= 5


def test_two_suites_do_not_share_a_folder(suite: Path, bench: Bench) -> None:
    process = start(suite)
    deadline = time.monotonic() + PATIENCE
    while not (suite.parent / "out/cells").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    code, _, errors = bench()
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)
    assert code == 2
    assert "another process is at work" in errors


def test_tuning_without_a_validation_split_is_refused(suite: Path, bench: Bench) -> None:
    recipe = suite.parent / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("validation_fraction: 0.2", "validation_fraction: 0"))
    suite.write_text(SUITE.replace("tuning: null", "tuning: {trials: 2, learning_rate: [1e-4, 1e-2]}"))
    code, _, errors = bench()
    assert code == 2
    assert "suite.yaml:8: tuning" in errors
    assert "there is none" in errors


def test_what_holds_for_all_cells_is_said_once(suite: Path, bench: Bench) -> None:
    """Each of three methods is checked; all three read another table than the recipe does."""
    recipe = suite.parent / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("validation_fraction", "encoding: ascii, validation_fraction"))
    other = suite.parent / "other.csv"
    other.write_text("text,label\n" + "".join(f"a day {n},{'good' if n % 2 else 'bad'}\n" for n in range(40)))
    suite.write_text(f"{SUITE}set: {{data.source: {other}}}\n")
    code, _, errors = bench("--dry-run")
    assert code == 0, errors
    assert errors.count("what was said of the old one is left out") == 1


MACHINES = """\
model: {from_config: {model_type: gpt2, n_layer: 1, n_head: 1, n_embd: 8, n_positions: 256}}
task: {type: turing_machine, machine_count: 64, tape_length: 4, train_runs: 1200, validation_runs: 8, test_runs: 8}
method: {type: full}
training: {epochs: 1, batch_size: 32}
"""
MACHINES_SUITE = """\
name: machines
recipe: recipe.yaml
methods: [{type: full}]
seeds: [0]
tuning: {trials: 4, learning_rate: [1e-4, 1e-1]}
"""


def test_tuning_where_the_task_makes_the_data(tmp_path: Path, command: Command) -> None:
    """Trials on fewer examples: there is no section `data` that could say so."""
    (tmp_path / "recipe.yaml").write_text(MACHINES)
    suite = tmp_path / "suite.yaml"
    suite.write_text(MACHINES_SUITE)
    done = command("bench", suite, "--output-dir", tmp_path / "out", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["missing"] == 7
    (cell,) = expand_cells(*load_suite(suite))
    trial = trial_recipe(cell, {}, seed=0, train_examples=100)
    assert trial.data is None
    assert (trial.train_rows, cell.recipe({}, seed=0).train_rows) == (100, 1200)


def test_a_first_method_that_cannot_run_stops_no_other(tmp_path: Path, command: Command) -> None:
    """The one before asks for more positions than the model has."""
    (tmp_path / "recipe.yaml").write_text(MACHINES)
    suite, long = tmp_path / "suite.yaml", "{name: long, type: full, set: {task.max_length: 300}}"
    suite.write_text(MACHINES_SUITE.replace("[{type: full}]", f"[{long}, {{type: full}}]"))
    done = command("bench", suite, "--output-dir", tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "long cannot run" in done.stdout
    assert "full cannot run" not in done.stdout
    suite.write_text(MACHINES_SUITE.replace("[{type: full}]", f"[{long}]"))
    alone = command("bench", suite, "--output-dir", tmp_path / "out", "--dry-run")
    assert alone.returncode == 2
    assert "positions for 256 tokens" in alone.stderr


@pytest.mark.network
def test_the_smoke_suite(command: Command, forked_runs: None, tmp_path: Path) -> None:
    """The shipped suite with real model and data, and a record of it made again."""
    suite = REPOSITORY / "benchmarks" / "suites" / "smoke.yaml"
    done = command("bench", suite, "--output-dir", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["statuses"] == {"success": 4}
    for name in ("lora", "linear_probe"):
        tuned = json.loads((tmp_path / "out/tuning" / f"{name}.json").read_text())
        record = read_record(tmp_path / f"out/cells/{name}--seed1")
        assert record.recipe["training"]["learning_rate"] == tuned["chosen"]["training.learning_rate"]
        for trial in (tmp_path / "out/tuning/trials").glob(f"{name}--*"):
            assert "test" not in read_record(trial).scores, "the test split is not read while settings are chosen"
    again = command("reproduce", "out/cells/linear_probe--seed0", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    outcome = json.loads(again.stdout)
    scores = [figure for figure in outcome["figures"] if figure["name"].startswith(("validation", "test"))]
    assert outcome["same_environment"] == (not outcome["differences"])
    assert scores
    assert all(figure["verdict"] == "identical" for figure in scores)


def test_an_interrupted_run_does_not_count_in_the_overhead(tmp_path: Path) -> None:
    """Its record's seconds span processes that are gone, so the difference to this one's would be below nothing.

    And a record that was left in the place of a run that broke off has all of its process's seconds.
    """
    execution = SimpleNamespace(
        plan=SimpleNamespace(folder=SimpleNamespace(path=tmp_path)), _lock=threading.Lock(), workers=1
    )
    for resumed, seconds, wall in ((0, 90.0, 100.0), (1, 900.0, 50.0), (0, 30.0, 30.0)):
        record = RunRecord(
            name="a",
            status="success",
            recipe={},
            started_at="2026-01-01T00:00:00+00:00",
            seconds=seconds,
            resumed=resumed,
        )
        Execution._note_seconds(execution, SimpleNamespace(record=record, wall_seconds=wall))  # type: ignore[arg-type]
    assert json.loads((tmp_path / SECONDS_NAME).read_text())["overhead_seconds_per_run"] == 10.0


def test_a_run_that_failed_without_a_word_does_not_end_the_suite() -> None:
    """Some errors have no message."""
    record = RunRecord(
        name="a", status="failed", error="", recipe={}, started_at="2026-01-01T00:00:00+00:00", seconds=1.0
    )
    assert _outcome(record) == "failed: no reason given"
