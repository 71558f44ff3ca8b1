"""A linear layer and its LoRA update, as numbers: y = x Wᵀ + b + s (x Aᵀ) Bᵀ.

The update is added to the layer's own outputs in place, and its gradient to that of the layer's inputs; neither is ever
there apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from peftlab.acceleration.device import device_type_of
from peftlab.acceleration.onednn import is_chosen, linear


@dataclass(frozen=True)
class LoraMatrices:
    """What a layer with an update consists of, all of one type.

    Args:
        weight: Outputs × inputs, frozen.
        bias: Outputs, frozen.
        down: A, rank × inputs.
        up: B, outputs × rank.
        scaling: Of the update.
    """

    weight: Tensor
    bias: Tensor | None
    down: Tensor
    up: Tensor
    scaling: float

    def outputs(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of n × inputs, and what A makes of them, n × rank."""
        low = linear(
            states, self.down
        )  # first, so that the outputs are still in the processor's cache when it is added
        return linear(states, self.weight, self.bias).addmm_(low, self.up.t(), alpha=self.scaling), low

    def gradients(
        self, gradient: Tensor, states: Tensor | None, low: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """By the states, A and B, as far as they are wanted; from that by the outputs, n × outputs.

        The states themselves are needed by A alone.
        """
        if device_type_of(gradient) == "cpu":
            of_low = linear(gradient, self.up.t()).mul_(self.scaling)
        else:
            of_low = scaled_product(gradient, self.up, self.scaling)
        # The gradient has just been made, and is in the cache: who reads it for little comes before the large product.
        of_up = self.of_up(gradient, low) if wanted[2] else None
        of_down = linear(of_low.t(), states.t()) if wanted[1] and states is not None else None
        of_states = linear(gradient, self.weight.t()).addmm_(of_low, self.down) if wanted[0] else None
        return of_states, of_down, of_up

    def of_up(self, gradient: Tensor, low: Tensor) -> Tensor:
        """By B, from that by the outputs, n × outputs, and what A makes of the inputs, n × rank."""
        if device_type_of(gradient) != "cpu":
            return scaled_product(gradient.t(), low, self.scaling)
        if is_chosen():
            # This way around, with the low-rank factor laid out anew, is the faster one.
            return linear(low.t().contiguous(), gradient.t()).mul_(self.scaling).t()
        return (low.t() @ gradient).mul_(self.scaling).t()


def scaled_product(left: Tensor, right: Tensor, scaling: float) -> Tensor:
    """Left · right · scaling in one operation, before it is rounded."""
    return left.new_empty(left.shape[0], right.shape[1]).addmm_(left, right, beta=0, alpha=scaling)
