"""The check for machines with a GPU: whatever a step does, the others run, and the summary says what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"

BEGIN = "import json, os, pathlib, subprocess, sys, time; own = json.loads(sys.argv[1]); "
WRITE = "pathlib.Path(own['found']).write_text(json.dumps({}))"


def step(name: str, code: str = "pass", **options: Any) -> dict[str, Any]:
    return {"name": name, "title": name, "command": [sys.executable, "-c", BEGIN + code], **options}


def found(**values: Any) -> str:
    return f"pathlib.Path(own['found']).write_text({json.dumps(json.dumps(values))!s})"


GOOD = found(status="passed", line="all well", results={"figure": 1})
CARD = found(status="passed", results={"has_cuda": True, "card": {"name": "Small", "memory_bytes": 8 * 10**9}})


def script(steps: list[dict[str, Any]], before: str = "") -> str:
    return (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n"
        "import check\nfrom plan import Step\n"
        "check.WATCH_SECONDS = 0.2\n"
        f"{before}\n"
        f"steps = [Step(**{{**values, 'command': tuple(values['command'])}}) for values in {steps!r}]\n"
        "sys.exit(check.main(sys.argv[1:], steps))\n"
    )


def bound_is_over_once(path: Path, words: int) -> str:
    """A clock on which every step's bound passes as soon as a file has so many words: no machine is too slow for it."""
    return (
        "import pathlib, process, time, types\n"
        f"def now(path=pathlib.Path({str(path)!r})):\n"
        f"    ready = path.exists() and len(path.read_text().split()) == {words}\n"
        "    return time.monotonic() + (10_000 if ready else 0)\n"
        "process.time = types.SimpleNamespace(sleep=time.sleep, monotonic=now)"
    )


class Checked:
    """A check that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[str], output: Path) -> None:
        self.code, self.out, self.error = done.returncode, done.stdout, done.stderr
        path = output / "check.json"
        self.values = json.loads(path.read_text()) if path.exists() else {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.values["steps"][name]


@pytest.fixture
def check(tmp_path: Path):
    """Runs the check with steps of the test's own."""

    def run(*steps: dict[str, Any], arguments: tuple[str, ...] = ("--device", "cpu"), before: str = "") -> Checked:
        output = tmp_path / "output"
        command = [sys.executable, "-c", script(list(steps), before), "--output", str(output), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=tmp_path)
        return Checked(done, output)

    return run


def test_what_steps_find_is_told_and_kept(check) -> None:
    done = check(step("environment", GOOD), step("second", GOOD))
    assert done.code == 0, done.error
    assert "2 of 2 steps passed" in done.out
    assert done["second"]["status"] == "passed"
    assert done["second"]["results"] == {"figure": 1}
    assert done["second"]["seconds"] > 0
    assert "all well" in done.out


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (found(status="failed", reason="a guard failed") + "; sys.exit(1)", "failed", "a guard failed"),
        (found(status="skipped", reason="not here"), "skipped", "not here"),
        ("import nothing_of_that_name", "failed", "exit code 1"),
        ("os.kill(os.getpid(), 9)", "failed", "ended by SIGKILL"),
        ("pass", "failed", "without a result"),
        ("pathlib.Path(own['found']).write_text('{half')", "failed", "without a result"),
        (
            found(status="running", results={"half": 1}) + "; open('READY', 'w').write('x'); time.sleep(300)",
            "timed out",
            "stopped after 100 s",
        ),
    ],
)
def test_a_bad_step_does_not_stop_the_others(code: str, status: str, reason: str, check, tmp_path: Path) -> None:
    code = code.replace("READY", str(tmp_path / "ready"))
    before = bound_is_over_once(tmp_path / "ready", words=1)
    done = check(step("environment", GOOD), step("bad", code, seconds=100), step("last", GOOD), before=before)
    assert done.code == (0 if status == "skipped" else 1)
    assert done["bad"]["status"] == status
    assert reason in done["bad"]["reason"]
    assert done["last"]["status"] == "passed"
    assert f"bad: {status}" in done.out
    assert "2 of 3 steps passed" in done.out
    if status == "timed out":
        assert done["bad"]["results"] == {"half": 1}
    if "nothing_of_that_name" in code:
        assert "ModuleNotFoundError" in done["bad"]["log"]


def test_a_step_that_hangs_goes_with_all_that_it_started(check, tmp_path: Path) -> None:
    child = "import time, os; open(os.environ['PIDS'], 'a').write(f'{os.getpid()} '); time.sleep(300)"
    code = (
        f"os.environ['PIDS'] = {str(tmp_path / 'pids')!r}; [subprocess.Popen([sys.executable, '-c', {child!r}]) "
        "for _ in range(2)]; import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    )
    before = bound_is_over_once(tmp_path / "pids", words=2)
    done = check(step("environment", GOOD), step("hangs", code, seconds=100), step("last", GOOD), before=before)
    assert done["hangs"]["status"] == "timed out"
    assert done["last"]["status"] == "passed"
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_all_that_is_for_a_card_is_asked_of_it() -> None:
    """A file may be marked as a whole; and a way to train that leaves itself out would fail the step."""
    from benchmarks.gpu.steps.gpu_tests import has_mark
    from benchmarks.gpu.steps.graphs import WAYS

    marked = {path.name for path in Path(__file__).parents[1].rglob("test_*.py") if has_mark(path)}
    assert {"test_starts_on_card.py", "test_unpadding.py", "test_run.py"} <= marked
    assert {values["training.cuda_graphs"] for values in WAYS.values()} == {"on", "off"}


def test_the_tests_for_a_card_are_found_where_pytest_has_no_plugins(tmp_path: Path) -> None:
    from benchmarks.gpu.steps.gpu_tests import ROOT, _command

    test = tmp_path / "test_card.py"
    test.write_text(
        "import pytest\n\n@pytest.mark.gpu\ndef test_one():\n    pass\n\ndef test_other():\n    assert False\n"
    )
    command = [*_command([test], tmp_path / "report.xml"), "-c", str(ROOT / "pyproject.toml")]
    variables = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 deselected" in done.stdout


def test_what_does_not_fit_into_the_time_is_named(check, tmp_path: Path) -> None:
    over = tmp_path / "over"  # once this is there, a second and a half of the minute is left
    done = check(
        step("environment", f"open({str(over)!r}, 'w').close(); {GOOD}"),
        step("hangs", "time.sleep(300)", seconds=300, least_seconds=0),
        step("long", GOOD, least_seconds=30),
        arguments=("--device", "cpu", "--minutes", "1"),
        before="import pathlib, types; check.time = types.SimpleNamespace("
        f"monotonic=lambda: 55.5 * pathlib.Path({str(over)!r}).exists())",
    )
    assert done.code == 1
    assert done["hangs"]["status"] == "timed out"
    assert done["hangs"]["bound_seconds"] == 1.5
    assert done["long"]["status"] == "skipped"
    assert "out of time" in done["long"]["reason"]
    assert "it takes 30 s at least" in done.out


def test_a_step_that_needs_more_than_there_is_is_left_out(check) -> None:
    steps = [
        step("environment", CARD),
        step("large", GOOD, card_bytes=30 * 10**9),
        step("wide", GOOD, disk_bytes=10**18),
        step("fits", GOOD, card_bytes=4 * 10**9),
    ]
    done = check(*steps, arguments=("--device", "cuda"))
    assert done.code == 0
    assert done["large"]["reason"] == "too little memory: it needs 30.0 GB, and the card has 8.0 GB"
    assert "too little disk" in done["wide"]["reason"]
    assert done["fits"]["status"] == "passed"
    on_cpu = check(*steps)
    assert on_cpu["large"]["reason"] == "not applicable on cpu at full size; --tiny runs it small"


def test_on_a_large_card_steps_share_it_unless_they_want_it_alone(check, tmp_path: Path) -> None:
    card = found(status="passed", results={"has_cuda": True, "card": {"name": "Large", "memory_bytes": 80 * 10**9}})
    wait, told = (
        "t = time.time(); time.sleep(0.3); ",
        "pathlib.Path(own['found']).write_text(json.dumps({'status': 'passed', 'results': {'from': t, 'to': time.time()}}))",
    )
    when = wait + told
    # Both wait for one another, however late the second begins.
    meet = (
        f"t = time.time(); here = pathlib.Path({str(tmp_path)!r}); open(here / f'{{os.getpid()}}.here', 'w').close()\n"
        f"while len(list(here.glob('*.here'))) < 2 and time.time() < t + {PATIENCE}: time.sleep(0.02)\n"
    ) + told
    steps = [
        step("environment", card),
        step("a", when, alone=True),
        step("b", meet),
        step("c", meet),
        step("d", when, alone=True),
    ]
    many = "import os; os.cpu_count = lambda: 16"
    done = check(*steps, arguments=("--device", "cuda"), before=many)
    assert done.code == 0
    spans = {name: done[name]["results"] for name in "abcd"}
    together = {
        (a, b)
        for a in "abcd"
        for b in "abcd"
        if a < b and spans[a]["from"] < spans[b]["to"] and spans[b]["from"] < spans[a]["to"]
    }
    assert together == {("b", "c")}
    small = check(
        step("environment", CARD), step("b", when), step("c", when), arguments=("--device", "cuda"), before=many
    )
    assert small["b"]["results"]["to"] <= small["c"]["results"]["from"]


def test_only_one_card_is_seen(check, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = "pathlib.Path(own['found']).write_text(json.dumps({'status': 'passed', 'line': os.environ['CUDA_VISIBLE_DEVICES']}))"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert check(step("environment", seen), arguments=("--device", "cuda"))["environment"]["line"] == "2"
    assert check(step("environment", seen))["environment"]["line"] == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert check(step("environment", seen), arguments=("--device", "cuda"))["environment"]["line"] == "0"


def test_without_cuda_every_other_step_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "check.py"), "--output", str(tmp_path / "output"), "--device", "cuda"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    steps = json.loads((tmp_path / "output" / "check.json").read_text())["steps"]
    assert steps["environment"]["status"] == "failed"
    assert steps["environment"]["results"]["versions"]["torch"]
    others = [values["reason"] for name, values in steps.items() if name != "environment"]
    assert len(others) >= 9
    assert set(others) == {"there is no CUDA device"}


def test_one_step_again_keeps_what_is_known_of_the_others(check) -> None:
    steps = [step("environment", GOOD), step("second", GOOD)]
    check(*steps)
    again = check(*steps, arguments=("--device", "cpu", "--only", "second"))
    assert again["environment"]["status"] == "passed"
    assert "1 of 1 steps passed" in again.out
    tiny = check(*steps, arguments=("--device", "cpu", "--tiny", "--only", "second"))
    assert set(tiny.values["steps"]) == {"second"}, "figures of another size do not belong together"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_check_that_is_stopped_has_told_what_it_knew(number: int, tmp_path: Path) -> None:
    steps = [
        step("environment", GOOD),
        step("long", f"{found(status='running', results={'half': 1})}; time.sleep(300)"),
        step("last", GOOD),
    ]
    process = start(steps, tmp_path)
    wait_for(tmp_path / "output" / "check.json", '"half"')
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    done = json.loads((tmp_path / "output" / "check.json").read_text())["steps"]
    assert process.returncode == 1
    assert done["environment"]["status"] == "passed"
    assert done["long"] == {**done["long"], "status": "skipped", "results": {"half": 1}}
    assert done["last"]["reason"] == "the check was stopped"
    assert "long: skipped: the check was stopped" in out


def test_killed_it_leaves_a_whole_file(tmp_path: Path) -> None:
    steps = [step("environment", GOOD), step("long", f"{found(status='running', results={'half': 1})}; time.sleep(8)")]
    process = start(steps, tmp_path)
    wait_for(tmp_path / "output" / "check.json", '"half"')
    process.kill()
    process.communicate()
    done = json.loads((tmp_path / "output" / "check.json").read_text())["steps"]
    assert done["environment"]["results"] == {"figure": 1}
    assert done["long"]["results"] == {"half": 1}


def test_killed_it_takes_its_step_along(tmp_path: Path) -> None:
    """Whatever still ran would hold the card."""
    child = "import time, os, sys; open(sys.argv[1], 'w').write(f'{os.getpid()}.'); time.sleep(300)"
    code = (
        f"sys.path.insert(0, {str(FOLDER.parents[1])!r}); from benchmarks.gpu.steps.step import run_step; "
        f"run_step(lambda _: subprocess.run([sys.executable, '-c', {child!r}, {str(tmp_path / 'pid')!r}]))"
    )
    process = start([step("environment", code)], tmp_path)
    wait_for(tmp_path / "pid", ".")
    process.kill()
    process.communicate()
    pid, deadline = int((tmp_path / "pid").read_text().rstrip(".")), time.monotonic() + PATIENCE
    while is_alive(pid):
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.1)


def start(steps: list[dict[str, Any]], tmp_path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script(steps), "--output", str(tmp_path / "output"), "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


FULL = """
import errno, outcome
def write(path, text, whole=outcome._replace):
    if path.parent.name == "output" and ROOM(text):
        raise OSError(errno.ENOSPC, "No space left on device")
    whole(path, text)
outcome._replace = write
"""


@pytest.mark.parametrize("room", ["True", "'figure' in text"], ids=["full", "full after a while"])
def test_a_full_output_folder_costs_nothing_but_its_name(room: str, check) -> None:
    done = check(step("environment", GOOD), step("second", GOOD), before=FULL.replace("ROOM(text)", room))
    assert done.code == 1
    assert "output cannot be written: No space left on device; results go to " in done.out
    assert "2 of 2 steps passed" in done.out
    elsewhere = Path(done.out.partition("results: ")[2].splitlines()[0])
    assert json.loads(elsewhere.read_text())["steps"]["second"]["results"] == {"figure": 1}


def test_a_file_in_the_place_of_the_output_folder(check, tmp_path: Path) -> None:
    (tmp_path / "output").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-c", script([step("environment", GOOD)]), "--output", "output", "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "output cannot be written" in done.stdout
    assert "1 of 1 steps passed" in done.stdout
    assert (tmp_path / "output").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [("--minutes", "0"), ("--wheels", "nowhere"), ("--device", "tpu"), ("--only", "nothing")],
    ids=lambda words: words[0],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], check) -> None:
    done = check(step("environment", GOOD), arguments=arguments)
    assert done.code == 2
    assert arguments[0] in done.error
    assert "Traceback" not in done.error


def write_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any") -> Path:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def test_wheels_come_first_and_those_that_do_not_fit_are_named(check, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    write_wheel(wheels, "peftlab_test_wheel", "1.5")
    write_wheel(wheels, "for_another_python", "1.0", "cp27-cp27m-win32")
    write_wheel(wheels, "torch", "99.0")
    write_wheel(wheels, "pytest", "99.0")  # another version than the machine's
    (wheels / "broken-1.0-py3-none-any.whl").write_bytes(b"no archive")
    code = "import peftlab_test_wheel, pytest, importlib.metadata as m; assert pytest.version == '99.0'; "
    code += (
        f"assert m.version('peftlab_test_wheel') == '1.5' and m.version('peftlab') and m.version('torch') < '9'; {GOOD}"
    )
    arguments = ("--device", "cpu", "--wheels", str(wheels))
    done = check(step("environment", code), step("last", GOOD), arguments=arguments)
    assert done["environment"]["status"] == "passed", done["environment"]
    told = done.values["wheels"]
    assert told["installed"] == ["peftlab-test-wheel 1.5", "pytest 99.0"]
    assert "not a supported wheel" in told["refused"]["for_another_python-1.0-cp27-cp27m-win32.whl"]
    assert told["refused"]["broken-1.0-py3-none-any.whl"]
    assert told["refused"]["torch-99.0-py3-none-any.whl"] == "the machine's own torch is used"
    assert "for_another_python-1.0-cp27-cp27m-win32.whl is left out" in done.out


def test_what_the_machine_has_is_not_installed_again(check, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    write_wheel(wheels, "pytest", pytest.__version__)
    done = check(step("environment", GOOD), arguments=("--device", "cpu", "--wheels", str(wheels)))
    assert done.values["wheels"] == {
        "installed": [], "already_here": [f"pytest {pytest.__version__}"], "refused": {},
    }  # fmt: skip
