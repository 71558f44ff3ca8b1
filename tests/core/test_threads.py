"""As many threads as cores are free, and threads that sleep while they wait; the number is kept where bits depend on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import threadpoolctl
import torch

from peftlab.core import threads
from tests.conftest import Command

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The number of threads is the process's: put it back."""
    count = torch.get_num_threads()
    for name in ("_watch", "_chosen", "_most"):
        monkeypatch.setattr(threads, name, None)
    with threadpoolctl.threadpool_limits(count):
        yield
    torch.set_num_threads(count)


class Machine:
    """What Linux would tell of four cores, in folders of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.cgroups.mkdir()
        self.seconds = 0.0
        self.own = 0.0
        self.idle = [0.0] * 4
        monkeypatch.setattr(threads, "_own_cpus", lambda: frozenset(range(4)))
        monkeypatch.setattr(threads.time, "monotonic", lambda: self.seconds)
        monkeypatch.setattr(threads.time, "sleep", lambda _: None)
        monkeypatch.setattr(threads.os, "times", lambda: os.times_result((self.own, 0.0, 0.0, 0.0, 0.0)))
        self._write()

    def _write(self) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        lines = [f"cpu{at} 0 0 0 {int(idle * ticks)} 0 0 0 0 0 0" for at, idle in enumerate(self.idle)]
        (self.proc / "stat").write_text("\n".join(["cpu 0 0 0 0 0 0 0 0 0 0", *lines, "intr 1 2"]))

    def free(
        self, *, idle: list[float], own: float = 0.0, after: Callable[[], None] = lambda: None
    ) -> tuple[float, str]:
        """Watch for ten seconds in which each core is idle for this share and this process uses so many cores."""
        watch = threads.Watch((self.proc, self.cgroups))
        self.seconds += 10
        self.own += own * 10
        self.idle = [had + 10 * share for had, share in zip(self.idle, idle, strict=True)]
        self._write()
        after()
        return watch.free_cores()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("idle", "own", "free"),
    [
        ([1, 1, 1, 1], 0, 4),
        ([1, 1, 1, 0], 1, 4),
        ([1, 1, 0, 0], 1, 3),
        ([0, 0, 0, 0], 0.5, 0.5),
        ([0.5, 0.5, 1, 1], 0, 3),
    ],
)
def test_what_others_use_is_not_free(machine: Machine, idle: list[float], own: float, free: float) -> None:
    found, said = machine.free(idle=idle, own=own)
    assert found == pytest.approx(free)
    assert "4 cores" in said


@pytest.mark.parametrize(
    ("files", "group", "quota"),
    [
        ({"cgroup.controllers": "cpu", "cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"cgroup.controllers": "cpu", "pod/cpu.max": "max 100000", "cpu.max": "200000 100000"}, "0::/pod/box", 2),
        ({"cgroup.controllers": "cpu", "pod/cpu.max": "50000 100000", "cpu.max": "200000 100000"}, "0::/pod", 0.5),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/docker/abc\n0::/", 3),
        (
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "100000", "cpu,cpuacct/x/cpu.cfs_period_us": "50000"},
            "2:cpu,cpuacct:/x",
            2,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/\n0::/", 4),
        ({}, "0::/", 4),
    ],
)
def test_a_containers_quota(machine: Machine, files: dict[str, str], group: str, quota: float) -> None:
    (machine.proc / "self" / "cgroup").write_text(group)
    for name, text in files.items():
        (machine.cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (machine.cgroups / name).write_text(text)
    found, said = machine.free(idle=[1, 1, 1, 1])
    assert found == pytest.approx(quota)
    assert ("quota" in said) == (quota < 4)


def test_others_in_the_same_container_use_its_quota(machine: Machine) -> None:
    (machine.proc / "self" / "cgroup").write_text("0::/")
    (machine.cgroups / "cgroup.controllers").write_text("cpu")
    (machine.cgroups / "cpu.max").write_text("300000 100000")
    usage = machine.cgroups / "cpu.stat"
    usage.write_text("usage_usec 0\nuser_usec 0")
    found, _ = machine.free(idle=[1, 1, 0, 0], own=0.5, after=lambda: usage.write_text("usage_usec 20000000"))
    assert found == pytest.approx(3 - 1.5)


def test_at_least_one_thread_and_never_more_than_torch_takes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.COUNT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(3)
    for free, count in {0.2: 1, 1.4: 1, 1.5: 2, 4.0: 3}.items():
        monkeypatch.setattr(threads.Watch, "free_cores", lambda _, free=free: (free, "as told"))
        chosen = threads.use_threads()
        assert (chosen.count, chosen.is_reduced) == (count, count < 3)
        assert torch.get_num_threads() == count
        assert threads.reason_for(count) == "as told"
    assert threads.use_threads(7).count == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.use_threads() == threads.Threads(3, "by OMP_NUM_THREADS")


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "200"}])
def test_how_threads_wait_is_set_unless_the_user_did(own: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.WAITING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    threads.begin()
    assert {name: os.environ[name] for name in threads.WAITING_VARIABLES if name in os.environ} == (
        own or threads.WAITING
    )


def test_it_is_set_before_torch_is_imported() -> None:
    code = (
        "import sys\nfrom peftlab.core import threads\nfrom peftlab.cli import app\n"
        "begin = threads.begin\n"
        "threads.begin = lambda: (print('torch' in sys.modules), begin())\n"
        "sys.argv = ['peftlab', '--version']\napp.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "False", done.stderr


def record(folder: Path) -> Any:
    return json.loads((folder / "record.json").read_text())


SHORT = [
    "--set", "training.max_steps=4", "--set", "training.checkpoint_every_steps=2", "--set", "measure=false",
]  # fmt: skip


def test_the_record_says_how_many_and_why(command: Command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tiny_run() / "recipe.yaml"
    assert command("run", recipe, "--output-dir", "out", "--threads", "2", "--device", "cpu", *SHORT).returncode == 0
    environment = record(tmp_path / "out")["environment"]
    assert (environment["threads"], environment["threads_reason"]) == (2, "as asked")
    again = command("reproduce", "out", "--output-dir", "again", "--json")
    assert again.returncode == 0, again.stderr
    assert "threads" not in json.loads(again.stdout)["differences"]
    assert record(tmp_path / "again")["environment"]["threads"] == min(2, os.cpu_count() or 1)


def test_a_run_that_is_taken_up_keeps_its_threads(
    command: Command, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = tiny_run() / "recipe.yaml"
    assert command("run", recipe, "--output-dir", "whole", "--threads", "2", *SHORT).returncode == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    (tmp_path / "killed" / "record.json").unlink()
    resumed = command("run", recipe, "--output-dir", "killed", "--resume", "--threads", "1", *SHORT)
    assert resumed.returncode == 0
    assert "computing with 2 threads as before, not with 1" in resumed.stderr
    now, before = record(tmp_path / "killed"), record(tmp_path / "whole")
    assert (now["environment"]["threads"], now["environment"]["threads_reason"]) == (2, "as the run began")
    assert now["scores"] == before["scores"]
    assert now["resumed"] == 1


def test_computations_at_once_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.COUNT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(6)
    threads.share_threads(2)
    assert torch.get_num_threads() == 3
    assert "2 that compute at once" in threads.reason_for(3)
    blas = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert blas  # numpy's
    assert max(blas) <= 3
    threads.share_threads(16)
    assert torch.get_num_threads() == 1
    with ThreadPoolExecutor(1, initializer=threads.join_threads) as started_later:
        assert started_later.submit(torch.get_num_threads).result() == 1
    threads.use_threads(4)  # asked for by the user
    threads.share_threads(2)
    assert torch.get_num_threads() == 4
    torch.set_num_threads(6)
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    threads.share_threads(2)
    assert torch.get_num_threads() == 6
