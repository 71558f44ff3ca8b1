"""Peft's linear layer with LoRA as one operation (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from typing import Any

from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peftlab.acceleration.device import computed_in
from peftlab.acceleration.lora_matrices import LoraMatrices
from peftlab.acceleration.low_rank import FusedLowRank, is_fused_with


class FusedLora(FusedLowRank, Linear):  # type: ignore[misc] # peft leaves its class untyped
    """A linear layer whose update is s (x Aᵀ) Bᵀ."""

    def lora_matrices(self, states: Tensor) -> LoraMatrices | None:
        """The layer's matrices; None where its update is not just one adapter's, or the states are of another kind."""
        name, base, kind = self.only_adapter(), self.base_layer, computed_in(states)
        if name is None or base.weight.dtype != kind or not states.numel():
            return None
        down, up = (self.casts.weight(part[name].weight, kind) for part in (self.lora_A, self.lora_B))
        weight = base.weight.t() if isinstance(base, Conv1D) else base.weight
        return LoraMatrices(weight, base.bias, down, up, self.scaling[name])

    def weights_to_cast(self) -> list[nn.Parameter]:
        """A and B of all adapters that train."""
        weights = [part.weight for part in (*self.lora_A.values(), *self.lora_B.values())]
        return [weight for weight in weights if weight.requires_grad]


def can_fuse(module: Any) -> bool:
    """Whether this is a LoRA layer without dropout, DoRA and biases of its own, of a frozen base."""
    if type(module) is not Linear or module.lora_variant or type(module.base_layer) not in (nn.Linear, Conv1D):
        return False
    parts = [*module.lora_A.values(), *module.lora_B.values()]
    are_plain = all(isinstance(part, nn.Linear) and part.bias is None for part in parts)
    return are_plain and is_fused_with(module, [part.weight for part in parts])
