"""What one of several processes finds alone, all act on: nobody waits for an answer that never comes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.forks import Fork
from tests.patience import PATIENCE
from tests.ports import free_port

pytestmark = pytest.mark.slow


def run_together(folder: Path, main: str) -> list[tuple[int, str]]:
    """How each of two processes has ended, and what it has said."""
    ports = {"MASTER_PORT": str(free_port()), "OTHER_PORT": str(free_port()), "THIRD_PORT": str(free_port())}
    started = []
    for rank in range(2):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", **ports}
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **own}
        with (folder / f"{rank}.log").open("wb") as log:
            called = f"tests.training.exchange_worker:{main}"
            started.append(Fork([folder], folder=folder, stdout=log, stderr=log, environment=variables, main=called))
    try:
        return [(each.wait(PATIENCE), (folder / f"{rank}.log").read_text()) for rank, each in enumerate(started)]
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has found."""
    folder = tmp_path_factory.mktemp("exchanges")
    for code, said in run_together(folder, "main"):
        assert code == 0, said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_what_one_run_failed_by_is_raised_in_all(found: list[dict[str, Any]]) -> None:
    assert [each["map"] for each in found] == ["DivergedError: no number"] * 2
    assert [each["first"] for each in found] == ["RunFailedError: in the first"] * 2


def test_what_the_first_process_has_kept_the_others_do_not_compute(found: list[dict[str, Any]]) -> None:
    assert [each["prepared"] for each in found] == [[[2, 4, 6], [2, 4, 6]]] * 2


def test_all_draw_the_same_after_the_first_has_drawn(found: list[dict[str, Any]]) -> None:
    assert len(set(found[0]["drawn"])) == 1


def test_an_error_names_its_process_once(found: list[dict[str, Any]]) -> None:
    assert [each["ended"] for each in found] == ["process 1: planned"] * 2


def test_why_one_process_cannot_take_part_is_told_by_the_first(found: list[dict[str, Any]]) -> None:
    assert [each["without_card"] for each in found] == ["process 1: there is no card for it"] * 2


def test_two_processes_that_see_the_same_card_only_are_told(found: list[dict[str, Any]]) -> None:
    assert "1 card, which the processes 0 and 1 both have" in found[0]["sharing"]


def test_a_process_that_waits_for_its_card_ends_when_another_has_failed(tmp_path: Path) -> None:
    (code, said), (_, other) = run_together(tmp_path, "wait_for_a_card")
    assert code == 1, said
    assert "RunFailedError: planned" in other, "this one has gone to its own end"
    assert "Error: process 1: planned" in said
    assert "waited for its card" in said
    assert (tmp_path / "0.record").read_text() == "process 1: planned"
