"""Elastic weight consolidation: what mattered to earlier rows is held (Kirkpatrick et al. 2017).

https://arxiv.org/abs/1612.00796; over several runs the Fisher informations add up, around the last run's weights, as
in online EWC (Schwarz et al. 2018, https://arxiv.org/abs/1805.06370).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr

from peftlab.core.hooks import below
from peftlab.core.in_mode import in_mode
from peftlab.core.past import Past
from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.task import Task
from peftlab.regularizers._averages import trained_weights
from peftlab.regularizers._start import KeepsStart

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@REGULARIZERS.register("ewc")
class Ewc(KeepsStart):
    """EWC: weights that mattered to an earlier run are pulled back to it (`peftlab continue`)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1612.00796"
    memory: ClassVar[str] = "two copies of what trains"
    needs_past: ClassVar[bool] = True

    strength: PositiveFloat = Field(1000.0, description="Half of it weighs the squared distances.")
    rows: PositiveInt = Field(256, description="Earlier training rows that the Fisher information is the mean over.")
    decay: float = Field(
        1.0, gt=0, le=1, description="What the information of runs before the earlier one is multiplied by."
    )

    _fisher: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    def remember(self, model: nn.Module, past: Past) -> Mapping[str, Tensor]:
        """The diagonal of the Fisher information at the earlier run's weights, and that of runs before it.

        O-LoRA's matrices grow from run to run. What was known of smaller ones is left out: their ranks do not move.
        """
        found = diagonal_fisher(model, past.task, past.examples(self.rows), trained_weights(model))
        for name, value in found.items():
            if name in past.kept and past.kept[name].shape == value.shape:
                value.add_(past.kept[name], alpha=self.decay)
        self._fisher = found
        return found

    def penalty(self, model: nn.Module) -> Tensor | None:
        """λ / 2 · Σ F (w − w₀)², over all trained weights."""
        terms = [
            (self._fisher[name] * (weight - self.start[name]).square()).sum()
            for name, weight in model.named_parameters()
            if name in self._fisher
        ]
        return self.strength / 2 * sum(terms[1:], terms[0]) if terms else None

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The earlier weights, and what they are worth."""
        fisher = {f"fisher/{name}": value for name, value in self._fisher.items()}
        return {**{f"start/{name}": value for name, value in self.start.items()}, **fisher}

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take both up."""
        super().restore(model, below("start/", state))
        weights = trained_weights(model)
        fisher = below("fisher/", state)
        self._fisher = {name: value.to(weights[name].device, copy=True) for name, value in fisher.items()}


def diagonal_fisher(model: nn.Module, task: Task, examples: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The diagonal of the Fisher information: the mean of the squared gradients of single examples.

    The label of each is drawn from the model, as the information is defined, where an example has one class; else it
    is the row's own (the empirical Fisher information).

    Args:
        model: At the weights; its mode stays as it was.
        task: Computes logits and losses.
        examples: Batches of one example each.
        weights: That train, by name.

    Returns:
        Of every weight a tensor of its shape.
    """
    import torch

    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in weights}
    generator, count = torch.Generator().manual_seed(0), 0
    with in_mode(model):
        for batch in examples:
            count += 1
            loss = _log_loss(model, task, batch, generator)
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    total[name] += gradient.detach().square()
    return {name: value / max(count, 1) for name, value in total.items()}


def _log_loss(model: nn.Module, task: Task, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    import torch
    from torch.nn import functional

    if not task.has_class_targets:
        return task.training_loss(model, batch)
    logits, _ = task.class_terms(task.logits(model, batch), batch)
    drawn = torch.multinomial(logits.detach().softmax(dim=-1).cpu(), 1, generator=generator).squeeze(1)
    return functional.cross_entropy(logits, drawn.to(logits.device), reduction="sum")
