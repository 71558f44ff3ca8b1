"""`peftlab doctor`: what was found is true, what is broken is told, and nothing secret is in it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftlab.doctor import machine, network, trial, trials
from peftlab.doctor.finding import Finding, without_home
from tests.patience import PATIENCE

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def a_busy_machine_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "SECONDS", PATIENCE)


def test_it_looks_at_everything_and_tells_it(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The trials run in this process, which has the libraries already; that of a process of its own is below."""
    monkeypatch.setattr(trials, "run_trial", lambda name: {"found": trial.TRIALS[name]()})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    done = command("doctor", "--offline", "--json")
    assert done.returncode == 0, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert list(found) == [
        *("python", "packages", "torch", "cores", "memory", "disk", "cache", "bitsandbytes", "training", "hub", "pip")
    ]
    assert all(finding["found"] and finding["meaning"].endswith(".") for finding in found.values())
    assert found["packages"]["values"]["versions"]["peft"] == importlib.metadata.version("peft")
    assert found["bitsandbytes"]["values"]["works"]["nf4"] == "works"
    assert found["training"]["values"]["parts"]["lora_linear"] > 0
    assert found["hub"]["found"] == found["pip"]["found"] == "not tried: the network is forbidden"
    assert found["cache"]["values"]["folder"] == "~/cache"
    assert "hf_secret" not in done.stdout
    assert str(tmp_path) not in done.stdout

    shown = command("doctor", "--offline")
    assert shown.returncode == 0
    assert [line.split()[1] for line in shown.stdout.splitlines() if line[0] != " "] == list(found)


def test_a_trial_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "version" in trials.run_trial("torch")["found"]
    with monkeypatch.context() as patch:
        patch.setattr(trials, "SECONDS", 0.01)
        assert trials.run_trial("torch") == {"error": "no answer within 0.01 seconds"}
    assert trials.run_trial("no such") == {"error": "KeyError: 'no such'"}
    monkeypatch.setattr(trials.sys, "executable", "/bin/false")
    assert trials.run_trial("torch") == {"error": "the process ended with 1: no word"}


@pytest.mark.parametrize(
    ("look", "outcome", "status", "message"),
    [
        (trials.look_at_torch, {"error": "ImportError: libtorch"}, "problem", "install it anew"),
        (trials.look_at_bitsandbytes, {"error": "ImportError: libcudart"}, "note", "everything else does"),
        (trials.look_at_bitsandbytes,
         {"found": {"version": "1", "device": "cpu", "works": {"nf4": "works", "int8": "RuntimeError: no"}}},
         "note", "Do not use int8 here"),
        (trials.look_at_training, {"error": "ArithmeticError: another loss"}, "problem", "model.acceleration: off"),
        (trials.look_at_torch,
         {"found": {"version": "2", "built_for_cuda": "12", "card": "H100", "memory_bytes": 80e9, "free_bytes": 8e9,
                    "bfloat16": True}},
         "ok", "Runs use this card; a frozen base is in bfloat16"),
        (trials.look_at_torch,
         {"found": {"version": "2", "built_for_cuda": "12", "card": "T4", "memory_bytes": 16e9, "free_bytes": 8e9,
                    "bfloat16": False}},
         "ok", "does not compute in bfloat16. model.dtype: float16 takes half of that memory."),
    ],
)  # fmt: skip
def test_what_is_broken_is_told(
    look: Callable[[dict[str, Any]], Finding], outcome: dict[str, Any], status: str, message: str
) -> None:
    finding = look(outcome)
    assert finding.status == status
    assert message in finding.meaning


def test_a_problem_shows_in_the_exit_code(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "run_trial", lambda name: {"error": "OSError: broken"})
    done = command("doctor", "--offline")
    assert done.returncode == 1
    assert "✗ torch         OSError: broken" in done.stdout


def test_packages_of_another_version_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["peft~=0.1.0", "nosuchpackage>=1", "numpy>=1", 'captum>=0.8; extra == "explain"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    finding = machine.look_at_packages()
    assert finding.status == "problem"
    assert finding.values["wrong"] == [
        f"peft is {importlib.metadata.version('peft')}, not ~=0.1.0",
        "nosuchpackage is missing",
    ]


@pytest.mark.parametrize("distribution", ["no list", "none"])
def test_a_checkout_without_a_list_of_packages_is_looked_at(
    distribution: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where peftlab was not installed by pip nothing says what it needs; all else is still told."""
    own = importlib.metadata.Distribution.from_name

    def from_name(name: str) -> importlib.metadata.Distribution:
        if name != "peftlab":
            return own(name)
        if distribution == "none":
            raise importlib.metadata.PackageNotFoundError(name)
        folder = tmp_path / "peftlab-0.1.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: peftlab\nVersion: 0.1\n")
        return importlib.metadata.Distribution.at(folder)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", from_name)
    monkeypatch.setattr(trials, "run_trial", lambda name: {"found": trial.TRIALS[name]()})
    done = command("doctor", "--offline", "--json")
    assert done.returncode == 0, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert len(found) == 11
    assert found["packages"]["status"] == "note"
    peftlab = {"no list": "0.1", "none": "missing"}[distribution]
    assert found["packages"]["found"].startswith(f"peftlab {peftlab}, torch {own('torch').version}")
    assert "not installed by pip" in found["packages"]["meaning"]

    monkeypatch.setattr(machine, "SHOWN", ("peftlab", "nosuchpackage"))
    finding = machine.look_at_packages()
    assert finding.status == "problem"
    assert "nosuchpackage missing" in finding.found


def test_a_cache_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "file" / "cache"))
    finding = machine.look_at_cache()
    assert finding.status == "problem"
    assert "PEFTLAB_CACHE" in finding.meaning


def test_what_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(network, "prepare_hub", lambda: False)
    assert network.look_at_hub(offline=False).status == "note"
    monkeypatch.setattr(network, "prepare_hub", lambda: True)
    assert network.look_at_hub(offline=False).found == "answers"
    for command, found in (
        (["false"], "does not answer"),
        (["true"], "the package index answers"),
        (["nosuch"], "no answer"),
    ):
        monkeypatch.setattr(network, "pip_command", lambda command=command: command)
        assert found in network.look_at_pip(offline=False).found


def test_home_folders_are_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    value = {"a": ["/home/somebody/x", 3], "b": "in /home/somebody/y"}
    assert without_home(value) == {"a": ["~/x", 3], "b": "in ~/y"}
