"""A job that takes steps on one batch and leaves nothing behind: what estimates, tests and benchmarks look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from peftlab.core.method import MethodContext
from peftlab.core.splits import EncodedSplit, Example
from peftlab.core.task import Task
from peftlab.measurement.throughput import ThroughputMeter
from peftlab.recipe.schema import Recipe
from peftlab.training.checkpoints import CheckpointFolder
from peftlab.training.guards import FIRST_STEPS, GradientGuard
from peftlab.training.hooks import HookList
from peftlab.training.interrupts import Interrupts
from peftlab.training.job import TrainingJob
from peftlab.training.metrics_log import MetricsLog
from peftlab.training.micro_batches import split_batches
from peftlab.training.steps import StepPlan
from peftlab.training.text_pairs import EncodedPairs, Pair

if TYPE_CHECKING:
    from accelerate import Accelerator

MANY_STEPS = 1000
"""The length that a run is given for methods with a plan of their own; the step that is watched is its first."""


@dataclass(frozen=True)
class Batch:
    """The batches of the step that takes the most memory.

    Args:
        examples: Encoded; real ones where they are at hand.
        lengths: Of the examples, as the task counts them.
        step: Positions of the examples, a list for each batch of the step.
        pairs: Texts without labels and their copies, for hooks that compare both; empty: the longest example stands
            for them.
    """

    examples: Sequence[Example]
    lengths: Sequence[int]
    step: Sequence[Sequence[int]]
    pairs: Sequence[Pair] = ()

    def cut(self, size: int) -> Batch:
        """The same step in pieces of so many examples at most: the two that take the most memory.

        Gradients of the pieces before lie beside the largest one, so two show as much as all of them.
        """

        def padded(piece: Sequence[int]) -> int:
            return len(piece) * max(self.lengths[position] for position in piece)

        return replace(self, step=sorted(split_batches(self.step, size), key=padded)[-2:])

    @property
    def size(self) -> int:
        """Examples of the largest batch."""
        return max(len(positions) for positions in self.step)

    @property
    def length(self) -> int:
        """Tokens of the longest example."""
        return max(self.lengths)


def placeholder_batch(task: Task, labels: tuple[str, ...], *, size: int, length: int, batches: int = 1) -> Batch:
    """Batches of texts of one length, one of them a token shorter: real batches have padding, and so a mask."""
    lengths = [length] * (size - 1) + [max(1, length - 1)] if size > 1 else [length]
    examples = [task.placeholder(own, labels) for own in lengths]
    return Batch(examples, task.lengths(examples), [list(range(size))] * batches)


def bare_job(
    recipe: Recipe,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: Any,
    accelerator: Accelerator,
    task: Task,
    hooks: HookList | None = None,
) -> TrainingJob:
    """A job that can take steps on one batch, and leaves nothing behind.

    Args:
        recipe: Its sections for training.
        batch: What it trains on.
        model: Wrapped by the method.
        optimizer: Prepared by the accelerator.
        accelerator: Of this job.
        task: The recipe's, or one in its place.
        hooks: That have begun; None: fresh ones of the recipe.
    """
    if hooks is None:
        context = MethodContext(recipe.task.peft_task(), MANY_STEPS)
        hooks = HookList.begin(recipe.training_hooks(), model, context)
    if hooks.need_unlabeled:
        longest = max(zip(batch.lengths, range(len(batch.examples)), strict=True))[1]
        pairs = batch.pairs or [(batch.examples[longest],) * 2]
        hooks.give_pairs(EncodedPairs(task, pairs, 0, torch.device("cpu")))
    guard = GradientGuard(model)
    # It decides by values, which shapes do not have.
    guard.load_state_dict({"waiting": [], "not_finite": [], "frozen": [], "steps": FIRST_STEPS})
    examples, nowhere = list(batch.examples), Path("/nonexistent")
    return TrainingJob(
        model=model,
        optimizer=optimizer,
        accelerator=accelerator,
        hooks=hooks,
        task=task,
        split=EncodedSplit("train", range(len(examples)), examples),
        plan=StepPlan(lambda _epoch: [list(positions) for positions in batch.step], len(batch.step), 1, None),
        config=recipe.training,
        evaluation=recipe.evaluation,
        learning_rate=1e-3,
        metric=None,
        higher_is_better=True,
        pad_token_id=0,
        evaluate=None,
        checkpoints=CheckpointFolder(nowhere),
        log=MetricsLog(nowhere),
        meter=ThroughputMeter(0, device=torch.device("cpu"), step_flops=None),
        interrupts=Interrupts(),
        on_step=lambda _step, _loss, _rate: None,
        extra_state=dict,
        gradients=guard,
    )
