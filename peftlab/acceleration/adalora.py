"""Peft's linear layer with AdaLoRA as one operation (Zhang et al. 2023, https://arxiv.org/abs/2303.10512).

Its update is LoRA's whose A is Λ A: a row of it is scaled by its singular value and by what peft scales the update by,
so that nothing of the size of the layer's outputs has to be.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from peft.tuners.adalora.layer import SVDLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from peftlab.acceleration.device import computed_in
from peftlab.acceleration.lora_matrices import LoraMatrices
from peftlab.acceleration.low_rank import FusedLowRank, is_fused_with

SMALL = 1e-5
"""What peft adds to the number of ranks, by which it divides the update."""


class FusedAdaLora(FusedLowRank, SVDLinear):  # type: ignore[misc] # peft leaves its class untyped
    """A linear layer whose update is (s / r) (x (Λ A)ᵀ) Bᵀ."""

    def lora_matrices(self, states: Tensor) -> LoraMatrices | None:
        """The layer's matrices; None where its update is not just one adapter's, or the states are of another kind."""
        name, base, kind = self.only_adapter(), self.base_layer, computed_in(states)
        if name is None or base.weight.dtype != kind or not states.numel():
            return None
        factor = self.scaling[name] / (self.ranknum[name] + SMALL)
        down = cast("Tensor", _Scaled.apply(self.lora_A[name], self.lora_E[name], factor, kind))  # type: ignore[no-untyped-call]
        weight = base.weight.t() if isinstance(base, Conv1D) else base.weight
        return LoraMatrices(weight, base.bias, down, self.casts.weight(self.lora_B[name], kind), 1.0)

    def weights_to_cast(self) -> list[nn.Parameter]:
        """B of all adapters that train: A and Λ are multiplied as they are, as autocast has it."""
        return [weight for weight in self.lora_B.values() if weight.requires_grad]


class _Scaled(torch.autograd.Function):
    """The rows of A, rank × inputs, times the singular values, rank × 1, and a factor of one element."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, values: Tensor, factor: Tensor, kind: torch.dtype) -> Tensor:
        scaled = values * factor
        ctx.save_for_backward(vectors, scaled, factor)
        return (vectors * scaled).to(kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        vectors, scaled, factor = ctx.saved_tensors
        gradient = gradients[0].to(vectors.dtype)
        of_vectors, of_values, *_ = ctx.needs_input_grad
        return (
            gradient * scaled if of_vectors else None,
            (gradient * vectors).sum(dim=1, keepdim=True).mul_(factor) if of_values else None,
            None,
            None,
        )


def can_fuse(module: Any) -> bool:
    """Whether this is a linear layer with AdaLoRA, without dropout, of a frozen base."""
    if type(module) is not SVDLinear or type(module.base_layer) not in (nn.Linear, Conv1D):
        return False
    parts = [*module.lora_A.values(), *module.lora_B.values(), *module.lora_E.values()]
    return is_fused_with(module, parts)
