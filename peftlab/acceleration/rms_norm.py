"""RMSNorm (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467) as one operation: y = w · x / √(mean(x²) + ε).

Kept are the inputs and one number a token.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from peftlab.acceleration.same_results import gives_the_same, ramp


class FusedRmsNorm(nn.Module):
    """Takes the place of any model's norm that computes as Llama's does."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        """… × size to … × size."""
        if hidden_states.dtype != torch.float32:
            return cast("Tensor", super().forward(hidden_states))
        return cast("Tensor", _RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon))  # type: ignore[no-untyped-call]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        inverse = states.square().mean(dim=-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states, weight, inverse)
        return (states * inverse).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states, weight, inverse = ctx.saved_tensors
        (gradient,) = gradients
        of_states = of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (gradient * states).mul_(inverse).flatten(0, -2).sum(dim=0)
        if ctx.needs_input_grad[0]:
            weighted = gradient * weight
            shared = (weighted * states).mean(dim=-1, keepdim=True).mul_(inverse.pow(3))
            of_states = weighted.mul_(inverse).addcmul_(states, shared, value=-1)
        return of_states, of_weight, None


def can_fuse(module: nn.Module) -> bool:
    """Whether its class computes as Llama's does, in float32 on CPU."""
    own: Any = type(module)
    weight = getattr(module, "weight", None)
    return (
        isinstance(weight, nn.Parameter)
        and isinstance(getattr(module, "variance_epsilon", None), float)
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and _is_known(own)
    )


@functools.cache
def _is_known(own: Any) -> bool:
    def found() -> Any:
        stand_in: Any = nn.Module()
        stand_in.weight, stand_in.variance_epsilon = nn.Parameter(ramp(8)), 0.05
        return own.forward(stand_in, ramp(2, 3, 8))

    def expected() -> Tensor:
        states = ramp(2, 3, 8)
        return ramp(8) * states * torch.rsqrt(states.square().mean(dim=-1, keepdim=True) + 0.05)

    return gives_the_same(found, expected)
