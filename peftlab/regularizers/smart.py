"""SMART: answers change little nearby, and little from step to step (Jiang et al. 2020).

https://arxiv.org/abs/1911.03437. Two terms are added to the loss. Each is a symmetric divergence of the answers: from
those for embeddings that are moved where answers change fastest (smoothness, with p = 2), and from those of a slow
average of the weights (the Bregman proximal point method, with momentum).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat

from peftlab.core.hooks import Backward
from peftlab.core.lent_weights import lent_weights
from peftlab.core.method import MethodContext
from peftlab.core.regularizer import REGULARIZERS, TrainingSetup, in_passes
from peftlab.regularizers._averages import WeightAverage
from peftlab.regularizers._classes import NeedsClasses, symmetric_divergence
from peftlab.regularizers._embeddings import Epsilon, Probe, changed_embeddings, small_noise

if TYPE_CHECKING:
    from torch import Tensor, nn


@REGULARIZERS.register("smart")
class Smart(NeedsClasses, WeightAverage):
    """SMART: answers shall change little when embeddings move, and little from step to step."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1911.03437"
    passes: ClassVar[float] = 3.5
    memory: ClassVar[str] = "1.14 times the activations of a pass, and one copy of what trains"
    replaces_loss: ClassVar[bool] = True
    not_with: ClassVar[tuple[str, ...]] = ("fgm", "freelb", "pgd")

    smoothness: PositiveFloat = Field(1.0, description="Weight of the divergence from the answers nearby.")
    epsilon: Epsilon = None
    proximity: NonNegativeFloat = Field(1.0, description="Weight of the divergence from the average's answers.")
    momentum: float = Field(0.99, ge=0, lt=1, description="Of the average of the weights.")

    def check(self, setup: TrainingSetup) -> None:
        """Refuse what has no classes, and methods that prune."""
        NeedsClasses.check(self, setup)
        WeightAverage.check(self, setup)

    def passes_of(self, *, trains_base: bool) -> float:
        """Forward: plain, with noise, moved, with the average. All but the last go back, two to the weights."""
        forward = 4 if self.proximity else 3
        return in_passes(forward=forward, backward=3, weights=2, trains_base=trains_base)

    def begin(self, model: nn.Module, context: MethodContext) -> None:
        """The average begins with the weights as they are."""
        self._move_mean(model, 1.0)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Move the average."""
        self._move_mean(model, 1 - self.momentum)

    def weights_to_keep(self, model: nn.Module) -> dict[str, Tensor]:
        """None: the average only holds the weights back."""
        return {}

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss with both terms."""
        import torch

        task = backward.task

        def loss(prepared: Any, batch: Mapping[str, Tensor]) -> Tensor:
            def answers() -> Tensor:
                return task.class_terms(task.logits(prepared, batch), batch)[0]

            logits = task.logits(prepared, batch)
            terms, _ = task.class_terms(logits, batch)
            probe = Probe(lambda output: small_noise(output, batch, self.epsilon))
            with _without_gradients_of_weights(model), changed_embeddings(model, probe):
                divergence = symmetric_divergence(answers(), terms.detach())
                found = torch.autograd.grad(divergence, probe.shifts)
            for shift, gradient in zip(probe.shifts, found, strict=True):
                shift.grad = gradient
            with changed_embeddings(model, Probe(probe.moved(batch, self.epsilon, 1.0), learns=False)):
                nearby = answers()
            total = task.loss(logits, batch) + self.smoothness * symmetric_divergence(nearby, terms)
            if self.proximity:
                with torch.no_grad(), lent_weights(model, self._mean):
                    earlier = answers()
                total = total + self.proximity * symmetric_divergence(terms, earlier)
            return total

        return backward(loss)


@contextlib.contextmanager
def _without_gradients_of_weights(model: nn.Module) -> Iterator[None]:
    """As long as the context lasts, no weight trains: operations of our own compute the gradients of all that does.

    Torch tells them what takes part in a graph, and not what ``torch.autograd.grad`` was asked for.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
