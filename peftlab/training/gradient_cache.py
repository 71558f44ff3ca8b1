"""Gradient caching: a loss that compares all examples of a batch, at the memory of a part of it.

GradCache (Gao et al. 2021, https://arxiv.org/abs/2101.06983): the logits of all parts are computed without a graph, the
loss of the whole batch gives the gradient of each of them, and a second pass of each part carries its own on into the
model. Both passes of a part draw the same random numbers. It costs one forward pass more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from peftlab.core.task import Task
from peftlab.training.checkpoints import generator_states, restore_generators
from peftlab.training.evaluation import to_device


class GradientCache:
    """The passes of one batch.

    Args:
        task: Its ``loss`` takes the logits of the whole batch.
        parts: Of the batch, from ``task.parts``.
        accelerator: Of the run.
    """

    def __init__(self, task: Task, parts: Sequence[Mapping[str, Tensor]], accelerator: Accelerator) -> None:
        self._task, self._parts, self._accelerator = task, parts, accelerator
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
        self._logits = torch.cat(found).requires_grad_()
        return self._task.loss(self._logits, batch)

    def carry_on(self, model: nn.Module) -> None:
        """Bring the gradients of the logits, which are there now, into the model; they are scaled as they are."""
        assert self._logits.grad is not None  # noqa: S101 - the loss has gone backward
        gradients, after, at = self._logits.grad, generator_states(), 0
        for part, state in zip(self._parts, self._states, strict=True):
            restore_generators(state)
            with self._accelerator.autocast():
                logits = self._task.logits(model, to_device(part, self._accelerator.device))
            logits.backward(gradients[at : at + len(logits)])  # type: ignore[no-untyped-call]
            at += len(logits)
        restore_generators(after)
        self._logits = torch.empty(0)
