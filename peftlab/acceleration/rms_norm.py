"""RMSNorm (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467) as one operation: y = w · x / √(mean(x²) + ε).

Kept are the inputs and one number a token.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from peftlab.acceleration.device import is_fused_for
from peftlab.acceleration.same_results import agree, gives_the_same, ramp, real_tensors


class FusedRmsNorm(nn.Module):
    """Takes the place of any model's norm that computes as Llama's does."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        """… × size to … × size."""
        if not is_fused_for(hidden_states) or hidden_states.dtype != self.weight.dtype:
            return cast("Tensor", super().forward(hidden_states))
        return cast("Tensor", _RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon))  # type: ignore[no-untyped-call]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        outputs, inverse = normalise(states, weight, epsilon)
        ctx.save_for_backward(states, weight, inverse)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states, weight, inverse = ctx.saved_tensors
        return *gradients_of_norm(gradients[0], states, weight, inverse, ctx.needs_input_grad[:2]), None


def normalise(states: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The norm's outputs, and 1 / √(mean(x²) + ε), … × 1, which is in float32 where the states are in half precision.

    By CUDA's kernel where that was tried and gives the same.
    """
    if states.is_cuda and kernel_agrees(states.device.type, states.dtype):
        return _kernel(states, weight, epsilon)
    precise = _precise(states)
    inverse = precise.square().mean(dim=-1, keepdim=True).add_(epsilon).rsqrt_()
    return (precise * inverse).mul_(weight).to(states.dtype), inverse


def gradients_of_norm(
    gradient: Tensor, states: Tensor, weight: Tensor, inverse: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """By states and weight, as far as they are wanted; likewise."""
    if states.is_cuda and kernel_agrees(states.device.type, states.dtype):
        return _kernel_backward(gradient, states, weight, inverse, wanted)
    kind, gradient, states = states.dtype, _precise(gradient), _precise(states)
    of_states = of_weight = None
    if wanted[1]:
        of_weight = (gradient * states).mul_(inverse).flatten(0, -2).sum(dim=0).to(weight.dtype)
    if wanted[0]:
        weighted = gradient * weight
        shared = (weighted * states).mean(dim=-1, keepdim=True).mul_(inverse.pow(3))
        of_states = weighted.mul_(inverse).addcmul_(states, shared, value=-1).to(kind)
    return of_states, of_weight


@functools.cache
def kernel_agrees(device: str, kind: torch.dtype) -> bool:
    """Whether this torch has a kernel for the norm and its gradients, and they are right; tried once, on the device."""

    def compute(kernel: bool) -> list[Tensor]:
        states, gradient, weight = (ramp(*shape).to(device, kind) for shape in ((6, 64), (6, 64), (64,)))
        if not kernel:  # by autograd, in float64
            states, weight = states.double().requires_grad_(), weight.double().requires_grad_()
            outputs = weight * states * torch.rsqrt(states.square().mean(dim=-1, keepdim=True) + 0.05)
            return [outputs.detach(), *torch.autograd.grad(outputs, (states, weight), gradient.double())]
        outputs, inverse = _kernel(states, weight, 0.05)
        gradients = _kernel_backward(gradient, states, weight, inverse, (True, True))
        return [tensor.double() for tensor in (outputs, *gradients) if tensor is not None]

    with real_tensors(), torch.inference_mode(mode=False):  # an evaluation may be the first to ask
        try:
            found = compute(kernel=True)
        except (RuntimeError, AttributeError, TypeError):  # no such operation, or none for this card
            return False
        with torch.enable_grad():
            wanted = compute(kernel=False)
    return agree(found, wanted, 4 * torch.finfo(kind).eps)


def _kernel(states: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = torch.ops.aten._fused_rms_norm(states, [states.shape[-1]], weight, epsilon)
    return found


def _kernel_backward(
    gradient: Tensor, states: Tensor, weight: Tensor, inverse: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    found: tuple[Tensor | None, Tensor | None] = torch.ops.aten._fused_rms_norm_backward(
        gradient.contiguous(), states, [states.shape[-1]], inverse, weight, [*wanted]
    )
    return found


def _precise(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def can_fuse(module: nn.Module) -> bool:
    """Whether its class computes as Llama's does, in float32 on CPU, or on CUDA."""
    own: Any = type(module)
    weight = getattr(module, "weight", None)
    return (
        isinstance(weight, nn.Parameter)
        and isinstance(getattr(module, "variance_epsilon", None), float)
        and is_fused_for(weight)
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
