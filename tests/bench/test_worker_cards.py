"""Runs at once on a machine with several cards: each sees one of its own, and more runs than cards are told."""

from __future__ import annotations

import concurrent.futures
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from peftlab.bench import worker as worker_module
from peftlab.bench.worker import Worker
from peftlab.cli import executors
from peftlab.core.devices import visible_cards
from tests.patience import PATIENCE


@pytest.fixture
def three_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("three_cards")
def test_the_cards_that_runs_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible_cards() == visible_cards("cuda") == ["0", "1", "2"]
    assert visible_cards("cpu") == visible_cards("cuda:1") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-1f,7")
    assert visible_cards() == ["4", "GPU-1f", "7"]


def test_without_a_card_there_are_none() -> None:
    assert visible_cards() == []


class Processes:
    """Stands in for processes: they end once as many run as are waited for."""

    def __init__(self, at_once: int) -> None:
        self.together, self.seen = threading.Barrier(at_once), list[str | None]()

    def __call__(self, _command: Any, *, env: dict[str, str], **_: Any) -> Any:
        self.seen.append(env.get("CUDA_VISIBLE_DEVICES"))

        def wait() -> int:
            self.together.wait(timeout=PATIENCE)
            return 0

        process = Mock(spec=["wait"])
        process.wait = wait
        return process


def cards_of(cards: list[str], runs: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    processes = Processes(runs)
    monkeypatch.setattr(worker_module.subprocess, "Popen", processes)
    worker = Worker(folder, cards=cards)
    with concurrent.futures.ThreadPoolExecutor(runs) as pool:
        for _ in range(2):
            turns = [pool.submit(worker._run_process, folder, folder / f"{n}.txt", None) for n in range(runs)]
            assert [turn.result() for turn in turns] == [0] * runs
    return processes.seen


def test_runs_at_once_have_a_card_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    seen = cards_of(["0", "1", "2"], 3, tmp_path, monkeypatch)
    assert sorted(map(str, seen[:3])) == sorted(map(str, seen[3:])) == ["0", "1", "2"]
    seen = cards_of(["0", "1"], 4, tmp_path, monkeypatch)
    assert sorted(map(str, seen[:4])) == ["0", "0", "1", "1"], "shared evenly"
    assert cards_of(["0"], 2, tmp_path, monkeypatch) == ["0,1,2"] * 4, "one card needs no choice"


@pytest.mark.usefixtures("three_cards")
@pytest.mark.parametrize(("workers", "told"), [(3, []), (4, ["4 runs at once share 3 GPUs"])])
def test_more_runs_than_cards_are_told(
    workers: int, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    reporter: Any = SimpleNamespace(say=said.append)
    monkeypatch.setattr(executors, "start_computing", lambda *_: None)
    wishes = executors.Wishes(device="auto", threads=4, workers=workers, offline=True)
    with executors.executor_site("local", None, wishes, reporter) as site:
        site.build(tmp_path)
    assert [line.partition(":")[0] for line in said] == told
