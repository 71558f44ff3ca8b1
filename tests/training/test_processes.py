"""Several processes give what one gives: the same losses, the same scores; and one that is lost ends all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import peftlab
from peftlab.core.record import read_record

WORKER = Path(__file__).with_name("world_worker.py")
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"type": "lora", "rank": 4, "alpha": 8},
    "full": {"type": "full"},
    "adalora": {"type": "adalora", "target_rank": 4, "initial_rank": 6},
    "prefix": {"type": "prefix_tuning", "num_virtual_tokens": 4},
}


def recipe(model: Path, reviews: Path, method: dict[str, Any], **training: Any) -> dict[str, Any]:
    """Fourteen steps of two batches of 9 texts, which part evenly between neither two processes nor three."""
    return {
        "name": "world",
        "model": {"path": str(model), "dropout": 0.0},
        "task": {"type": "text_classification", "text": "text", "label": "label", "max_length": 32},
        "data": {"source": str(reviews), "validation_fraction": 0.2},
        "method": method,
        "measure": False,
        "training": {
            "max_steps": 14,
            "batch_size": 9,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3,
            "log_every_steps": 1,
            **training,
        },
    }


def run_together(count: int, runs: list[dict[str, Any]], folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Run recipes in so many processes, as torchrun would start them."""
    (folder / "runs.json").write_text(json.dumps(runs))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        own = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started.append(
            subprocess.Popen(
                [sys.executable, str(WORKER), str(folder / "runs.json")],
                env={**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in own.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    done = []
    for process in started:
        out, err = process.communicate(timeout=120)
        done.append(subprocess.CompletedProcess([], process.returncode, out, err))
    return done


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def alone(tiny_bert: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process for each method."""
    folder = tmp_path_factory.mktemp("alone")
    for name, method in METHODS.items():
        peftlab.run_recipe(
            peftlab.Recipe.from_dict(recipe(tiny_bert, reviews, method)), output_dir=folder / name, device="cpu"
        )
    return folder


@pytest.fixture(scope="module")
def together(tiny_bert: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs in two processes; the last one loses its second process after step 9."""
    folder = tmp_path_factory.mktemp("together")
    runs: list[dict[str, Any]] = [
        {"recipe": recipe(tiny_bert, reviews, method), "output_dir": str(folder / name)}
        for name, method in METHODS.items()
    ]
    killed = recipe(tiny_bert, reviews, METHODS["lora"], checkpoint_every_steps=4)
    runs.append({"recipe": killed, "output_dir": str(folder / "killed"), "die": [1, 9]})
    first, second = run_together(2, runs, folder)
    assert first.returncode == 0, first.stderr
    assert second.returncode == -9
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_what_one_gives(method: str, alone: Path, together: Path) -> None:
    one, two = read_record(alone / method), read_record(together / method)
    assert two.status == "success", two.error
    assert losses(together / method) == pytest.approx(losses(alone / method), rel=1e-6)
    assert two.scores == one.scores
    assert two.environment["processes"] == 2
    assert two.environment["backend"] == "gloo"
    assert two.environment["own_draws"] is None
    assert {name for name, guard in two.guards.items() if guard.status == "passed"} == {
        name for name, guard in one.guards.items() if guard.status == "passed"
    }


def test_a_lost_process_ends_the_run_and_another_number_goes_on(
    alone: Path, together: Path, tiny_bert: Path, reviews: Path
) -> None:
    record = read_record(together / "killed")
    assert record.status == "failed"
    assert "process 1 is gone" in str(record.error)
    assert "--resume" in str(record.error)
    again = recipe(tiny_bert, reviews, METHODS["lora"], checkpoint_every_steps=4)
    result = peftlab.run_recipe(
        peftlab.Recipe.from_dict(again), output_dir=together / "killed", resume=True, device="cpu"
    )
    assert result.record.status == "success"
    assert losses(together / "killed") == pytest.approx(losses(alone / "lora"), rel=1e-6)
    assert result.record.scores == read_record(alone / "lora").scores
