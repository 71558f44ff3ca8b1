"""L2-SP: weights are pulled to where they started, not to zero (Li et al. 2018, https://arxiv.org/abs/1802.01483).

So is a new head here, which the paper pulls to zero. The paper has no other weight decay beside it; here that is
``training.weight_decay``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveFloat

from peftlab.core.regularizer import REGULARIZERS
from peftlab.regularizers._start import KeepsStart

if TYPE_CHECKING:
    from torch import Tensor, nn


@REGULARIZERS.register("l2_sp")
class L2Sp(KeepsStart):
    """L2-SP: what trains is pulled to where it started."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1802.01483"
    memory: ClassVar[str] = "1.9 copies of what trains"

    alpha: PositiveFloat = Field(0.01, description="Half of it weighs the squared distance from the start.")

    def penalty(self, model: nn.Module) -> Tensor:
        """α / 2 · ‖w − w₀‖², over all trained weights."""
        from torch.nn.functional import mse_loss

        distances = [
            mse_loss(weight, self.start[name], reduction="sum")
            for name, weight in model.named_parameters()
            if name in self.start
        ]
        return self.alpha / 2 * sum(distances[1:], distances[0])
