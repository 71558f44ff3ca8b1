"""Which examples make which step: fixed by the seed, so that a run can be taken up at any step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

EpochPlan = Callable[[int], list[list[int]]]
"""The batches of an epoch, as positions in the training split."""


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Args:
        number: From 1.
        epoch: From 0.
        batches: Positions in the training split, a list for each batch that is accumulated.
        ends_epoch: Whether it is the last step of its epoch.
    """

    number: int
    epoch: int
    batches: list[list[int]]
    ends_epoch: bool


@dataclass(frozen=True)
class StepPlan:
    """All steps of a run.

    Args:
        plan_epoch: Gives the batches of an epoch; always the same for the same epoch.
        accumulation: Batches in a step. The last step of an epoch takes what is left.
        epochs: At most so many; None: as many as ``max_steps`` takes.
        max_steps: At most so many; None: as many as ``epochs`` make.
    """

    plan_epoch: EpochPlan
    accumulation: int
    epochs: int | None
    max_steps: int | None

    @cached_property
    def total(self) -> int:
        """The number of steps in the whole run."""
        if self.epochs is None:
            return self.max_steps or 0
        steps = sum(self._steps_of(epoch) for epoch in range(self.epochs))
        return steps if self.max_steps is None else min(steps, self.max_steps)

    @property
    def comes_back(self) -> bool:
        """Whether examples are seen more than once."""
        return self.total > self._steps_of(0)

    def steps(self, after: int = 0) -> Iterator[Step]:
        """The steps that follow the given number of finished ones."""
        number, epoch = 0, 0
        while number < self.total:
            batches = self.plan_epoch(epoch)
            count = math.ceil(len(batches) / self.accumulation)
            for position in range(count):
                number += 1
                if number > self.total:
                    return
                if number > after:
                    start = position * self.accumulation
                    yield Step(number, epoch, batches[start : start + self.accumulation], position == count - 1)
            epoch += 1

    def longest_step(self, lengths: list[int]) -> Step:
        """A step with the first epoch's batch of most padded tokens, after the others: their gradients are there then.

        Another epoch may put it there.
        """
        batches = self.plan_epoch(0)
        padded = [len(batch) * max(lengths[position] for position in batch) for batch in batches]
        longest = padded.index(max(padded))
        start = longest - longest % self.accumulation
        group = [batch for at, batch in enumerate(batches[start : start + self.accumulation], start) if at != longest]
        if not group and self.accumulation > 1 and longest > 0:  # what an epoch's last step has left
            group = [batches[longest - 1]]
        return Step(1 + start // self.accumulation, 0, [*group, batches[longest]], ends_epoch=False)

    def _steps_of(self, epoch: int) -> int:
        return math.ceil(len(self.plan_epoch(epoch)) / self.accumulation)
