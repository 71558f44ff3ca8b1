"""What the training loop works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from accelerate import Accelerator
from torch import nn

from peftlab.core.callback import CallbackList
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Task
from peftlab.training.batches_ahead import BatchesAhead
from peftlab.training.checkpoints import CheckpointFolder
from peftlab.training.graphs import StepGraphs
from peftlab.training.guards import GradientGuard
from peftlab.training.hooks import HookList
from peftlab.training.interrupts import Interrupts
from peftlab.training.meter import Meter
from peftlab.training.metrics_log import MetricsLog
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.roll_outs import RollOuts
from peftlab.training.steps import StepPlan
from peftlab.training.training_config import EvaluationConfig, TrainingConfig
from peftlab.training.world import World


@dataclass(frozen=True)
class TrainingJob:
    """Everything that the loop works on.

    Args:
        model: Wrapped by the method, prepared by accelerate.
        optimizer: Prepared by accelerate.
        accelerator: Of this run.
        hooks: Of the method and the regularisers.
        task: Makes batches and the loss, as the hooks want it.
        split: The training split.
        plan: All steps.
        config: The recipe's section.
        evaluation: The recipe's section.
        learning_rate: The peak.
        metric: Of the validation split, or None where there is none.
        higher_is_better: Direction of the metric.
        pad_token_id: For padding.
        evaluate: Scores of the validation split, or None where there is none.
        checkpoints: Where they go.
        log: Where the metrics go.
        meter: Measures speed.
        interrupts: Ctrl-C.
        on_step: Told of each step that is logged: its number, loss and learning rate, for a progress bar.
        extra_state: What the run wants to find again in a checkpoint.
        gradients: Watches the first steps.
        micro_batches: How many examples are computed at once.
        callbacks: A program's own; they may end the training.
        ahead: Makes batches one step ahead; None: they are made when they are needed.
        graphs: Replays passes that were recorded; None: all are computed plainly.
        world: The processes that do each step together.
        roll_outs: What the task computes with the model between steps; None: nothing.
    """

    model: nn.Module
    optimizer: Any
    accelerator: Accelerator
    hooks: HookList
    task: Task
    split: EncodedSplit
    plan: StepPlan
    config: TrainingConfig
    evaluation: EvaluationConfig
    learning_rate: float
    metric: str | None
    higher_is_better: bool
    pad_token_id: int
    evaluate: Callable[[], dict[str, float]] | None
    checkpoints: CheckpointFolder
    log: MetricsLog
    meter: Meter
    interrupts: Interrupts
    on_step: Callable[[int, float, float], None]
    extra_state: Callable[[], dict[str, Any]]
    gradients: GradientGuard
    micro_batches: MicroBatches = field(default_factory=MicroBatches)
    callbacks: CallbackList = field(default_factory=CallbackList)
    ahead: BatchesAhead | None = None
    graphs: StepGraphs | None = None
    world: World = field(default_factory=World)
    roll_outs: RollOuts | None = None

    @cached_property
    def bare_model(self) -> nn.Module:
        """The model without what accelerate may have put around it. To ask accelerate walks through all its modules."""
        return self.accelerator.unwrap_model(self.model)  # type: ignore[no-any-return]
