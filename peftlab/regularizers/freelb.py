"""FreeLB: adversarial training whose every pass counts (Zhu et al. 2020, https://arxiv.org/abs/1909.11764).

As in section 3.3 of the paper all passes of a batch have one dropout mask: each step is uphill for the network that the
next pass has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.generators import generator_states, restore_generators
from peftlab.core.hooks import Backward
from peftlab.core.regularizer import REGULARIZERS, Regularizer
from peftlab.regularizers._embeddings import Epsilon, Probe, changed_embeddings, small_noise

if TYPE_CHECKING:
    from torch import Tensor, nn


@REGULARIZERS.register("freelb")
class FreeLb(Regularizer):
    """FreeLB: several steps uphill from a random place, and the mean of the gradients on the way."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1909.11764"
    passes: ClassVar[float] = 3.0
    memory: ClassVar[str] = "one copy of what trains, and at most four times the embeddings' output"
    not_with: ClassVar[tuple[str, ...]] = ("fgm", "pgd")

    epsilon: Epsilon = None
    step: float = Field(0.4, gt=0, le=1, description="The length of a step, as a share of epsilon.")
    steps: PositiveInt = Field(3, description="Passes.")

    def passes_of(self, *, trains_base: bool) -> float:
        """Each step counts whole."""
        return float(self.steps)

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean of all passes, of the loss as of the gradients."""
        losses: list[Tensor] = []
        drawn = generator_states()
        probe = Probe(lambda output: small_noise(output, batch, self.epsilon), learns=self.steps > 1)
        for remaining in reversed(range(self.steps)):
            if losses:
                restore_generators(drawn)
            with changed_embeddings(model, _after_the_same_draws(probe, batch) if losses else probe):
                losses.append(backward(weight=1 / self.steps))
            if remaining:
                moved = probe.moved(batch, self.epsilon, self.step)
                probe = Probe(moved, learns=remaining > 1)
        return sum(losses[1:], losses[0]) / self.steps


def _after_the_same_draws(probe: Probe, batch: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The probe, which draws what the first pass drew there: what is drawn after it is the same then too."""

    def change(output: Tensor) -> Tensor:
        small_noise(output, batch, 1.0)
        return probe(output)

    return change
