"""Whatever ends a verb, nothing half-written stays, and a line is told instead of a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its signals cannot be sent by a process to itself")

WHILE_IMPORTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "peftlab.cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from peftlab.__main__ import main
main()
"""


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """Ray's handlers stay where it was begun; what is started in the background ignores some signals."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_while_the_program_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", WHILE_IMPORTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Stopped.\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_a_file_is_written(
    number: signal.Signals, command, tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, before = tiny_run(), signal.getsignal(number)
    monkeypatch.setattr("peftlab.core.files.os.fsync", lambda _: os.kill(os.getpid(), number))
    stopped = command("report", run, "--output", tmp_path / "report.html")
    assert (stopped.returncode, stopped.stderr) == (1, "Stopped.\n")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before


def test_a_forked_child_ends_by_the_signal_itself() -> None:
    program = """
import os, signal, time
from peftlab.cli.stopping import ended_in_good_order
signal.signal(signal.SIGTERM, signal.SIG_DFL)
with ended_in_good_order():
    here, there = os.pipe()
    child = os.fork()
    if not child:
        os.write(there, b".")
        time.sleep(60)
    assert os.read(here, 1) == b"."  # it is on its way
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGTERM}\n", "")


def test_before_a_verb_begins(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftlab.cli.verbs.Verbs.resolve_command", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    stopped = command("ls", "methods")
    assert (stopped.returncode, stopped.stderr) == (1, "Stopped.\n")


@pytest.mark.parametrize(
    ("verb", "left"),
    [
        (("bench", "suite.yaml", "--dry-run"), "suite_data.json"),
        (("bench", "suite.yaml", "--dry-run"), ".suite.yaml.abcd1234.partial"),
        (("tune", "recipe.yaml", "--trials", "0"), ".search.json.abcd1234.partial"),
        (("run", "recipe.yaml"), ".recipe.yaml.abcd1234.partial"),
    ],
)
def test_what_a_call_that_was_killed_at_once_has_left_is_not_in_the_way(
    verb: tuple[str, ...], left: str, command, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copyfile(tiny_run() / "recipe.yaml", tmp_path / "recipe.yaml")
    methods = "methods: [{type: lora}, {type: bitfit}]\ntuning: null\nseeds: [0]\n"
    (tmp_path / "suite.yaml").write_text(f"name: tiny\nrecipe: recipe.yaml\n{methods}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()
    (tmp_path / "out" / left).write_text("{}")
    sets = ("--set", "training.max_steps=1", "--set", "evaluation.test=false") if verb[0] == "run" else ()
    done = command(*verb, "--output-dir", tmp_path / "out", *sets)
    assert "other things" not in done.stderr
    assert "not empty" not in done.stderr
    if verb[0] != "tune":
        assert done.returncode == 0, done.stderr


def test_a_report_passes_over_what_is_half_written(command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_run(), tmp_path / "runs" / ".soup.abcd1234.partial")
    done = command("report", tmp_path / "runs")
    assert done.returncode == 2
    assert "no readable record" in done.stderr


def test_a_stop_around_the_record_costs_no_training_and_leaves_a_whole_run(
    command, tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sets = tmp_path / "out", ("--set", "training.max_steps=1", "--set", "evaluation.test=false")
    arguments = ("run", tiny_run() / "recipe.yaml", "--output-dir", run, *sets)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("peftlab.run.run.write_record", stop)
        assert command(*arguments).returncode == 1
    with monkeypatch.context() as patch:
        patch.setattr("peftlab.run.saving_stage.save_artifact", full)
        assert "error       No space left on device" in command(*arguments, "--resume").stdout
    assert "resuming after step 1" in command(*arguments, "--resume").stderr
    (run / "adapter" / "README.md").unlink()
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert "already finished" in command(*arguments, "--resume").stderr
    assert (run / "adapter" / "README.md").exists()
    assert not (run / "checkpoints").exists()
