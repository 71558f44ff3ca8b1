"""The plan of steps: every example once an epoch, and the same steps whether or not a run is taken up half-way."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftlab.training.steps import StepPlan


def plan_of(batches: int, accumulation: int, epochs: int | None, max_steps: int | None) -> StepPlan:
    return StepPlan(lambda epoch: [[epoch * 1000 + n] for n in range(batches)], accumulation, epochs, max_steps)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 60))
def test_resuming_goes_on_with_the_same_steps(batches: int, accumulation: int, epochs: int, after: int) -> None:
    plan = plan_of(batches, accumulation, epochs, None)
    whole = list(plan.steps())
    assert [step.number for step in whole] == list(range(1, plan.total + 1))
    assert list(plan.steps(after=after)) == whole[after:]


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4))
def test_an_epoch_sees_every_batch_once(batches: int, accumulation: int, epochs: int) -> None:
    plan = plan_of(batches, accumulation, epochs, None)
    assert plan.total == epochs * math.ceil(batches / accumulation)
    for epoch in range(epochs):
        steps = [step for step in plan.steps() if step.epoch == epoch]
        assert [batch for step in steps for batch in step.batches] == plan.plan_epoch(epoch)
        assert [step.ends_epoch for step in steps] == [False] * (len(steps) - 1) + [True]


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 40))
def test_max_steps_cuts_and_extends(batches: int, accumulation: int, max_steps: int) -> None:
    plan = plan_of(batches, accumulation, None, max_steps)
    assert [step.number for step in plan.steps()] == list(range(1, max_steps + 1))
    both = plan_of(batches, accumulation, 2, max_steps)
    assert both.total == len(list(both.steps())) == min(max_steps, 2 * math.ceil(batches / accumulation))


def test_the_longest_step_is_found() -> None:
    lengths = [3, 3, 9, 9, 4, 4]
    plan = StepPlan(lambda _: [[0, 1], [2, 3], [4, 5]], 1, 1, None)
    assert plan.longest_step(lengths).batches == [[2, 3]]


@pytest.mark.parametrize(
    ("accumulation", "longest", "step"),
    [
        (2, 0, [[2, 3], [0, 1]]),  # another epoch may put it second, where gradients are there already
        (2, 1, [[0, 1], [2, 3]]),
        (2, 4, [[6, 7], [8]]),  # alone in the epoch's last step
        (3, 4, [[6, 7], [8]]),
        (8, 0, [[2, 3], [4, 5], [6, 7], [8], [0, 1]]),
    ],
)
def test_the_longest_batch_comes_after_the_others_of_its_step(
    accumulation: int, longest: int, step: list[list[int]]
) -> None:
    batches = [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    lengths = [30 if position in batches[longest] else 2 for position in range(9)]
    assert StepPlan(lambda _: batches, accumulation, 1, None).longest_step(lengths).batches == step
