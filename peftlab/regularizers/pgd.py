"""PGD: adversarial training by several small steps (Madry et al. 2018, https://arxiv.org/abs/1706.06083)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.hooks import Backward
from peftlab.core.regularizer import REGULARIZERS, Regularizer, in_passes
from peftlab.regularizers._embeddings import Epsilon, Probe, changed_embeddings, frozen

if TYPE_CHECKING:
    from torch import Tensor, nn


@REGULARIZERS.register("pgd")
class Pgd(Regularizer):
    """PGD: each text is learned a second time, where several small steps uphill have led its embeddings."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1706.06083"
    passes: ClassVar[float] = 4.0
    memory: ClassVar[str] = "one copy of what trains, and at most four times the embeddings' output"
    not_with: ClassVar[tuple[str, ...]] = ("fgm", "freelb")

    epsilon: Epsilon = None
    step: float = Field(0.4, gt=0, le=1, description="The length of a step, as a share of epsilon.")
    steps: PositiveInt = Field(3, description="Steps uphill; each takes a pass more.")

    def passes_of(self, *, trains_base: bool) -> float:
        """One of the texts as they are, and one each step, of which the last alone has gradients of weights."""
        passes = 1 + self.steps
        return in_passes(forward=passes, backward=passes, weights=2, trains_base=trains_base)

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The gradients of the texts as they are, and those of the last place that the steps led to."""
        probe = Probe()
        with changed_embeddings(model, probe):
            loss = backward()
        for remaining in reversed(range(self.steps)):
            probe = Probe(probe.moved(batch, self.epsilon, self.step), learns=remaining > 0)
            with changed_embeddings(model, probe), frozen(model) if remaining else nullcontext():
                backward()
        return loss
