"""Suites on a real Ray cluster of two nodes, both on this machine; nodes, drivers and runs are killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster.loopback import add_node, loopback_cluster
from peftlab.bench.cells import expand_cells
from peftlab.bench.ray_cluster import Share, check_nodes, connected, living_nodes
from peftlab.bench.ray_executor import RayExecutor
from peftlab.bench.suite import load_suite
from peftlab.core.errors import UserError
from peftlab.core.record import read_record
from peftlab.core.reporter import Silent
from peftlab.recipe.schema import Recipe
from tests.conftest import REPOSITORY, Command
from tests.forks import Fork
from tests.patience import PATIENCE

pytest.importorskip("ray", reason="ray is not installed: pip install 'peftlab[ray]'")
pytestmark = pytest.mark.slow

STAND_IN = (sys.executable, str(REPOSITORY / "benchmarks/cluster/stand_in.py"), "0")
"""A run that imports nothing heavy and ends when the gate is opened."""
RECIPE = """\
name: tiny
model: {{path: {model}}}
task: {{type: text_classification, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.2}}
method: {{type: linear_probe}}
training: {{epochs: 1, batch_size: 8}}
measure: false
"""
SUITE = """\
name: tiny
recipe: recipe.yaml
methods: [{type: linear_probe}]
seeds: [0, 1, 2, 3]
tuning: null
"""


@dataclass(frozen=True)
class Machines:
    """The cluster, and what its runs look at."""

    cluster: Any
    folder: Path

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    @property
    def starts(self) -> list[str]:
        path = self.folder / "starts.txt"
        return path.read_text().split() if path.exists() else []

    def forget(self) -> None:
        (self.folder / "starts.txt").unlink(missing_ok=True)
        self.gate.unlink(missing_ok=True)

    def kept(self) -> list[str]:
        return [path.name for path in (self.folder / "cache/suites").glob("*") if not path.name.endswith(".logs")]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("ray")
    # The processes find no bitsandbytes, which no run here needs: its import takes longer than such a run.
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text("import sys\nsys.modules['bitsandbytes'] = None\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder / 'site'}{os.pathsep}{REPOSITORY}")
        patch.setenv("PEFTLAB_CACHE", str(folder / "cache"))
        patch.setenv("STARTS", str(folder / "starts.txt"))
        patch.setenv("FINISH_ONLY_IF_EXISTS", str(folder / "gate"))
        with loopback_cluster(1, 1) as cluster:
            yield Machines(cluster, folder)


@pytest.fixture
def suite(tmp_path: Path, tiny_bert: Path, reviews: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=tiny_bert, data=reviews))
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    return path


def recipes(suite: Path) -> list[Recipe]:
    (cell,) = expand_cells(*load_suite(suite))
    return [cell.recipe({}, seed=seed) for seed in range(4)]


def start_all(executor: RayExecutor, suite: Path, pool: ThreadPoolExecutor) -> list[Any]:
    return [
        pool.submit(executor.run, recipe, suite.parent / "cells" / f"seed{recipe.seed}") for recipe in recipes(suite)
    ]


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def stand_ins(machines: Machines) -> int:
    found = subprocess.run(["pgrep", "-f", f"stand_in.py.*{machines.folder}"], capture_output=True)
    return len(found.stdout.splitlines())


def test_a_lost_node_a_stop_and_the_same_again(machines: Machines, suite: Path) -> None:
    machines.forget()
    with connected(machines.cluster.address), ThreadPoolExecutor(4) as pool:
        check_nodes(living_nodes())
        new = lambda: RayExecutor(suite.parent / "logs", Share(1, 0), reporter=Silent(), program=STAND_IN)  # noqa: E731

        # Stopped: the runs end, and nothing of them is in the suite's folder.
        executor = new()
        runs = start_all(executor, suite, pool)
        until(lambda: len(machines.starts) == 2, "each node starts a run")
        executor.stop()
        for run in runs:
            assert isinstance(run.exception(timeout=PATIENCE), KeyboardInterrupt)
        until(lambda: not stand_ins(machines), "no run goes on")
        assert not (suite.parent / "cells").exists()
        before = machines.starts

        # Started again, they go on in the same folders. The second node is lost: its run starts again on the first.
        machines.forget()
        executor = new()
        runs = start_all(executor, suite, pool)
        until(lambda: len(machines.starts) == 2, "each node starts a run")
        assert set(machines.starts) & set(before)
        second = next(node for node in machines.cluster.list_all_nodes() if not node.head)
        machines.cluster.remove_node(second, allow_graceful=False)
        until(lambda: stand_ins(machines) == 1, "the run ends with its node")
        machines.gate.touch()
        finished = [run.result(timeout=PATIENCE) for run in runs]
        assert len(machines.starts) == 5
        assert len(set(machines.starts)) == 4

        # Each record is there once, whole, with all that the run has left and said; the nodes have kept nothing.
        assert [done.record.status for done in finished] == ["success"] * 4
        folders = sorted((suite.parent / "cells").iterdir())
        assert [read_record(folder).recipe["seed"] for folder in folders] == [0, 1, 2, 3]
        assert all({item.name for item in folder.iterdir()} == {"recipe.yaml", "record.json"} for folder in folders)
        assert len(list((suite.parent / "logs").iterdir())) == 4
        until(lambda: not machines.kept(), "the nodes delete what has arrived")
    add_node(machines.cluster, 1)


def test_a_killed_driver_and_the_command_itself(machines: Machines, suite: Path, command: Command) -> None:
    """With real runs: the one that is at work when the driver is killed goes on from what its node has kept."""
    suite.write_text(SUITE.replace("[0, 1, 2, 3]", "[0]"))
    options = ["--executor", "ray", "--address", machines.cluster.address, "--output-dir", suite.parent / "out"]
    with (suite.parent / "said.txt").open("wb") as said:
        driver = Fork(["bench", suite, *options], folder=suite.parent, stdout=said, stderr=said)
    until(lambda: machines.kept() != [], "a run starts")
    (kept,) = machines.kept()
    driver.send_signal(signal.SIGKILL)
    driver.wait(PATIENCE)
    running = ["pgrep", "-f", f"output-dir {machines.folder}"]
    until(lambda: subprocess.run(running, capture_output=True).stdout == b"", "its run ends too")
    assert machines.kept() == [kept]
    assert not list(suite.parent.glob("out/cells/*/record.json"))

    done = command("bench", suite, *options, "--json")
    assert done.returncode == 0, done.stderr
    assert "on 2 nodes of a Ray cluster: 1 CPU for each run, 2 at once" in done.stderr
    (record,) = suite.parent.glob("out/cells/*/record.json")
    assert read_record(record.parent).status == "success"
    assert (record.parent / "predictions.parquet").exists()
    assert list((record.parent / "adapter").iterdir())
    until(lambda: not machines.kept(), "the node deletes what has arrived")


def test_a_node_with_another_version_is_named(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "peftlab-9.9.dist-info").mkdir()
    (tmp_path / "peftlab-9.9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: peftlab\nVersion: 9.9\n")
    node = add_node(machines.cluster, 1, env_vars={"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"})
    with connected(machines.cluster.address), pytest.raises(UserError, match=r"has peftlab 9\.9 instead of"):
        check_nodes(living_nodes())
    machines.cluster.remove_node(node)
