"""Processes that begin with their libraries loaded are like any others to who starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gpu.ready import ADDRESS, Fork, libraries_loaded, start

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys, time
print(sys.argv[1:], os.getcwd(), os.environ["OWN"], "loaded" if "colorsys" in sys.modules else "", flush=True)
if sys.argv[1] == "wait":
    sys.stdin.readline()
    time.sleep(300)
if sys.argv[1] == "raise":
    raise ValueError("of the script")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "script_of_a_test.py").write_text(SCRIPT)
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "OWN": "of the test"}
    with libraries_loaded(own, ROOT, ["colorsys"]) as address:
        yield {**own, **address}


def begin(word: str, tmp_path: Path, variables: dict[str, str], **more: int) -> subprocess.Popen[bytes] | Fork:
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "script_of_a_test", word]
        return start(command, folder=tmp_path, environment=variables, output=log, **more)


@pytest.mark.parametrize(("word", "code"), [("0", 0), ("7", 7), ("raise", 1)])
def test_a_fork_has_its_own_words_folder_variables_and_end(
    word: str, code: int, tmp_path: Path, variables: dict[str, str]
) -> None:
    process = begin(word, tmp_path, {**variables, "OWN": "another"})
    assert isinstance(process, Fork)
    assert process.wait(60) == process.poll() == code
    told = (tmp_path / "log").read_text()
    assert told.startswith(f"{[word]} {tmp_path} another loaded\n")
    assert ("ValueError: of the script" in told) == (word == "raise")


def test_a_fork_waits_for_its_pipe_and_can_be_killed(tmp_path: Path, variables: dict[str, str]) -> None:
    process = begin("wait", tmp_path, variables, stdin=subprocess.PIPE)
    assert process.stdin is not None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert process.poll() is None
    process.stdin.close()
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL


def test_a_fork_ends_with_whoever_has_started_it(tmp_path: Path, variables: dict[str, str]) -> None:
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.gpu.ready import start\n"
        "process = start([sys.executable, '-m', 'script_of_a_test', 'wait'], stdin=-1)\n"
        "print(process.pid, flush=True); time.sleep(300)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=variables, stdout=subprocess.PIPE)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_where_nothing_is_loaded_a_process_begins_anew(tmp_path: Path, variables: dict[str, str]) -> None:
    process = begin("3", tmp_path, {**variables, ADDRESS: str(tmp_path / "nothing")})
    assert isinstance(process, subprocess.Popen)
    assert process.wait(60) == 3
    assert (tmp_path / "log").read_text().startswith(f"['3'] {tmp_path} of the test \n")
