"""Batches made one step ahead are the same ones, in the same order, and nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch

from peftlab.core.task import TASKS
from peftlab.training.batches_ahead import Batch, BatchesAhead, collates_ahead
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.steps import StepPlan


def plan() -> StepPlan:
    return StepPlan(lambda epoch: [[epoch, 1], [2, 3], [4, 5]], accumulation=2, epochs=2, max_steps=None)


class Maker:
    """Remembers who asked for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def __call__(self, pieces: Sequence[Sequence[int]]) -> list[Batch]:
        self.asked.append((threading.current_thread().name.partition("_")[0], [list(piece) for piece in pieces]))
        return [{"input_ids": torch.tensor(piece)} for piece in pieces]


def test_each_step_gets_its_batches_and_the_next_ones_are_begun() -> None:
    make, micro = Maker(), MicroBatches()
    ahead, found = BatchesAhead(pin=False), []
    for step in ahead.steps(plan().steps(after=1)):
        found.append(
            [batch["input_ids"].tolist() for batch in ahead.take(micro.split(step.batches), micro.split, make)]
        )
    ahead.close()
    assert found == [step.batches for step in plan().steps(after=1)]
    assert [thread for thread, _ in make.asked] == ["MainThread", "batches", "batches"]


def test_a_step_that_is_cut_anew_has_its_batches_made_anew() -> None:
    make, micro = Maker(), MicroBatches()
    ahead, found = BatchesAhead(pin=False), []
    for step in ahead.steps(plan().steps()):
        ahead.take(micro.split(step.batches), micro.split, make)
        if step.number == 2:  # memory ran out
            micro.size = 1
            found = [batch["input_ids"].tolist() for batch in ahead.take(micro.split(step.batches), micro.split, make)]
    ahead.close()
    assert found == [[4], [5]]
    assert make.asked[-1][1] == [[4], [5]]


def test_an_error_comes_where_the_batches_are_taken() -> None:
    def fail(pieces: Sequence[Sequence[int]]) -> list[Batch]:
        if pieces[0] == [4, 5]:
            raise ValueError("no such batch")
        return []

    ahead = BatchesAhead(pin=False)
    steps = ahead.steps(plan().steps())
    split = MicroBatches().split
    ahead.take(next(steps).batches, split, fail)
    second = next(steps)
    with pytest.raises(ValueError, match="no such batch"):
        ahead.take(second.batches, split, fail)
    ahead.close()


def test_tasks_that_draw_numbers_are_not_made_ahead() -> None:
    assert collates_ahead(TASKS["text_classification"](text="text", label="label"))
    assert collates_ahead(TASKS["causal_lm"](text="text"))
    assert not collates_ahead(TASKS["masked_lm"](text="text"))

    class Noisy:
        collates_ahead: ClassVar[bool] = True

    class Drawing(Noisy):
        def collate(self, examples: Any, pad_token_id: int) -> Any:
            return torch.rand(len(examples))

    assert not collates_ahead(Drawing())
