"""What `bench --executor ray` is told before any cluster is at hand, and what a run is given of one."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from peftlab.bench import ray_cluster
from peftlab.bench.ray_cell import Parcel, run_cell
from peftlab.bench.ray_cluster import Node, Share, choose_share, connected, differing_versions, version_reader
from peftlab.bench.ray_executor import unpack
from peftlab.core.config import Document
from peftlab.core.errors import PeftlabError, UserError
from peftlab.recipe.schema import build_recipe
from tests.conftest import REPOSITORY, Command
from tests.ports import free_port

NO_RAY = "ray is not installed: pip install 'peftlab[ray]'"


def node(**resources: float) -> Node:
    return {"Resources": resources, "Alive": True}


SMALL, LARGE, CARDS = node(CPU=4), node(CPU=16), node(CPU=32, GPU=4)


@pytest.mark.parametrize(
    ("nodes", "device", "threads", "expected"),
    [
        ([SMALL, LARGE], "auto", None, Share(4, 0)),  # all of the smallest node
        ([SMALL, CARDS], "auto", None, Share(8, 1)),  # a card's part of the only node that has any
        ([SMALL, CARDS], "cpu", 2, Share(2, 0)),
        ([node(CPU=0), SMALL], "auto", None, Share(4, 0)),  # a head that runs nothing
    ],
)
def test_what_each_run_is_given(nodes: list[Node], device: str, threads: int | None, expected: Share) -> None:
    share = choose_share(nodes, device=device, threads=threads)
    assert share == expected
    assert share.device == ("cuda" if expected.gpus else "cpu")


def test_how_many_runs_a_node_takes() -> None:
    assert [Share(8, 1).times_on(there) for there in (SMALL, LARGE, CARDS)] == [0, 0, 4]
    assert [Share(3, 0).times_on(there) for there in (SMALL, LARGE, CARDS)] == [1, 5, 10]


@pytest.mark.parametrize(
    ("device", "threads", "message"),
    [
        ("cuda", None, "no node of the cluster has a GPU"),
        ("cuda:1", None, "the cluster chooses the card"),
        ("cpu", 17, "no node has 17 CPUs for a run; the largest has 16"),
        ("gpu", None, "not a known device"),
    ],
)
def test_what_no_node_can_give_is_refused(device: str, threads: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_share([SMALL, LARGE], device=device, threads=threads)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text("model: {path: nowhere}\n")
    path = tmp_path / "suite.yaml"
    path.write_text("name: s\nrecipe: recipe.yaml\nmethods: [{type: lora}]\nseeds: [0]\ntuning: null\n")
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--executor", "ray"], "no Ray cluster is named"),
        (["--executor", "ray", "--address", f"127.0.0.1:{free_port()}"], "nothing answers there"),
        (["--executor", "ray", "--address", "head.invalid:6379"], "nothing answers there"),
        (["--executor", "ray", "--address", "head"], "this is no address"),
        (["--executor", "ray", "--address", "ray://head:10001"], "must run on a node of the cluster"),
        (["--address", "auto"], "of use on Ray alone"),
    ],
)
def test_an_address_that_cannot_be_used(
    command: Command, suite: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    done = command("bench", suite, "--output-dir", suite.parent / "out", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (suite.parent / "out").exists()


def test_without_ray(command: Command, suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = command("bench", suite, "--executor", "ray", "--address", "auto")
    assert done.returncode == 2
    assert "pip install 'peftlab[ray]'" in done.stderr


@pytest.mark.slow
def test_a_port_that_is_not_rays_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    monkeypatch.setattr(ray_cluster, "CONNECTION_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="no answer within 2 s"), connected(address):
            pass


def test_a_run_that_is_too_large_is_not_started_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own default Ray starts a run again whenever a node's memory runs low; this must be set before it looks."""
    ray = pytest.importorskip("ray", reason=NO_RAY)
    monkeypatch.setenv(ray_cluster.MEMORY_VARIABLE, "of before")  # so that what is set here goes away again
    monkeypatch.delenv(ray_cluster.MEMORY_VARIABLE)
    seen: list[str | None] = []
    monkeypatch.setattr(ray_cluster, "_refuse_unreachable", lambda address: None)
    monkeypatch.setattr(ray, "init", lambda **_: seen.append(os.environ.get(ray_cluster.MEMORY_VARIABLE)))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with connected("auto"):
        assert seen == ["2"]


def test_nodes_with_other_packages_are_described() -> None:
    here: ray_cluster.Versions = {"peftlab": "1.0", "torch": "2.13.0"}
    assert differing_versions(here, here) is None
    other: ray_cluster.Versions = {"peftlab": None, "torch": "2.12.0"}
    assert differing_versions(other, here) == "no peftlab, torch 2.12.0 instead of 2.13.0"


def test_a_node_without_peftlab_can_still_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray sends what it is to execute by name where it can: that would end in an import that fails there."""
    ray = pytest.importorskip("ray", reason=NO_RAY)
    sent = ray.cloudpickle.dumps(version_reader())
    for name in [name for name in sys.modules if name == "peftlab" or name.startswith("peftlab.")]:
        monkeypatch.setitem(sys.modules, name, None)
    versions: dict[str, Any] = pickle.loads(sent)()  # noqa: S301
    assert versions["peftlab"]


def test_what_a_node_sends_stays_in_the_runs_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cells" / "a"
    folder.mkdir(parents=True)
    (folder / "old.txt").write_text("of an earlier try")
    unpack(Parcel({"record.json": b"{}", "adapter/weights": b"\x00"}, "", 1.0, "/there"), folder)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "adapter/weights",
        "record.json",
    ]
    for path in ("../b", "/etc/b"):
        with pytest.raises(PeftlabError, match="outside the run's folder"):
            unpack(Parcel({path: b""}, "", 1.0, "/there"), folder)


def test_a_changed_recipe_does_not_go_on_from_what_a_node_has_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder on the node is that of the cell, whatever its recipe was when it was interrupted."""
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "suites" / "cell" / "checkpoints"

    def run(rate: float) -> Parcel:
        values = {
            "model": {"path": "nowhere"},
            "task": {"type": "text_classification"},
            "data": {"source": "reviews.csv"},
            "method": {"type": "lora"},
            "training": {"epochs": 1, "batch_size": 8, "learning_rate": rate},
        }
        recipe = build_recipe(Document(source="cell", values=values), default_name="cell").model_dump(mode="json")
        return run_cell(
            recipe, name="cell", working_directory=str(tmp_path / "nowhere"), threads=1, device="cpu", offline=True,
            program=(sys.executable, str(REPOSITORY / "benchmarks/cluster/stand_in.py"), "0"),
        )  # fmt: skip

    run(1e-3)
    (kept.parent / "record.json").unlink()
    (kept / "step1").mkdir(parents=True)
    (kept.parent / ".record.json.abc.partial").touch()  # by a process that was killed while it wrote
    sent = run(1e-3)
    assert (kept / "step1").exists()
    assert set(sent.files) == {"record.json", "recipe.yaml"}
    (kept.parent / "record.json").unlink()
    sent = run(2e-3)
    assert not kept.exists()
    assert json.loads(sent.files["record.json"])["recipe"]["training"]["learning_rate"] == 2e-3
