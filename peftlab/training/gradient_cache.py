"""Gradient caching: a loss that compares all examples of a batch, at the memory of a part of it.

GradCache (Gao et al. 2021, https://arxiv.org/abs/2101.06983): the logits of all parts are computed without a graph, the
loss of the whole batch gives the gradient of each of them, and a second pass of each part carries its own on into the
model. Both passes of a part draw the same random numbers. It costs one forward pass more.

Several processes compute parts of their own, and all get the logits of all: the loss is that of one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from peftlab.core.generators import generator_states, restore_generators
from peftlab.core.task import Task
from peftlab.training.evaluation import to_device
from peftlab.training.world import World


class GradientCache:
    """The passes of one batch.

    Args:
        task: Its ``loss`` takes the logits of the whole batch.
        parts: Of the batch, from ``task.parts``.
        accelerator: Of the run.
        world: The processes among which the parts are shared.
    """

    def __init__(
        self, task: Task, parts: Sequence[Mapping[str, Tensor]], accelerator: Accelerator, world: World
    ) -> None:
        self._task, self._accelerator, self._world = task, accelerator, world
        own = world.share([range(len(parts))])
        self._parts = [parts[at] for positions in own for at in positions]
        self._start = 0
        self._states: list[dict[str, Tensor]] = []
        self._logits = torch.empty(0)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The sum of the loss over the batch's terms; its graph ends at the logits.

        Args:
            model: In training mode.
            batch: The whole one, on the model's device.
        """
        self._states, found = [], []
        with torch.no_grad():
            for part in self._parts:
                self._states.append(generator_states())
                found.append(self._task.logits(model, to_device(part, self._accelerator.device)))
        self._logits = self._of_all(found).requires_grad_()
        return self._task.loss(self._logits, batch)

    def _of_all(self, found: Sequence[Tensor]) -> Tensor:
        """The logits of all parts in their order, which are shared among the processes."""
        if self._world.size == 1:
            return torch.cat(list(found))
        by_rank = self._world.gather([logits.cpu() for logits in found])
        self._start = sum(len(logits) for of_rank in by_rank[: self._world.rank] for logits in of_rank)
        return torch.cat([logits for of_rank in by_rank for logits in of_rank]).to(self._accelerator.device)

    def carry_on(self, model: nn.Module) -> None:
        """Bring the gradients of the logits, which are there now, into the model; they are scaled as they are."""
        assert self._logits.grad is not None  # noqa: S101 - the loss has gone backward
        gradients, after, at = self._logits.grad, generator_states(), self._start
        for part, state in zip(self._parts, self._states, strict=True):
            restore_generators(state)
            with self._accelerator.autocast():
                logits = self._task.logits(model, to_device(part, self._accelerator.device))
            logits.backward(gradients[at : at + len(logits)])  # type: ignore[no-untyped-call]
            at += len(logits)
        restore_generators(after)
        self._logits = torch.empty(0)
