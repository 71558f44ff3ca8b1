"""Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864) as one operation: x · cos + rotate_half(x) · sin.

The rotated halves are never put together, and of the states nothing is kept: the way back needs the angles only.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.llama import modeling_llama

from peftlab.acceleration.device import device_type_of, is_fused_for
from peftlab.acceleration.same_results import gives_the_same, ramp

NAME = "apply_rotary_pos_emb"
"""What a model's file calls the function that computes it."""


class FusedRotaryAttention(nn.Module):
    """Takes the place of attention whose model's file turns queries and keys as Llama's does."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the layer's own."""
        own: Any = super().forward
        return _with_fused_rotation(own.__func__)(self, *args, **kwargs)


@functools.cache
def _with_fused_rotation(forward: FunctionType) -> Callable[..., Any]:
    """The same function, to which the rotation's name means the fused one."""
    names = {**forward.__globals__, NAME: rotate}
    found = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    found.__kwdefaults__ = forward.__kwdefaults__
    return found


def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys, batch × heads × length × size, turned by their positions' angles, batch × length × size."""
    tensors = (query, key, cos, sin)
    if not is_fused_for(*tensors) or len({tensor.dtype for tensor in tensors}) > 1:
        return cast("tuple[Tensor, Tensor]", modeling_llama.apply_rotary_pos_emb(query, key, cos, sin, unsqueeze_dim))
    angles = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    turned = (_Rotation.apply(states, *angles) for states in (query, key))  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor]", tuple(turned))


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(states, cos, *sin.chunk(2, dim=-1), sign=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        (gradient,) = gradients
        of_first, of_second = sin.chunk(2, dim=-1)
        return _turn(gradient, cos, of_second, of_first, sign=-1), None, None


def _turn(states: Tensor, cos: Tensor, sin_of_first: Tensor, sin_of_second: Tensor, *, sign: int) -> Tensor:
    """Each half times cos, less or plus the other one times its own sin; plus or less where the sign is −1."""
    first, second = states.chunk(2, dim=-1)
    turned = states * cos
    turned_first, turned_second = turned.chunk(2, dim=-1)
    turned_first.addcmul_(second, sin_of_first, value=-sign)
    turned_second.addcmul_(first, sin_of_second, value=sign)
    return turned


def can_fuse(module: nn.Module) -> bool:
    """Whether its class turns queries and keys as Llama does, on CPU or CUDA."""
    forward = type(module).forward
    if NAME not in getattr(getattr(forward, "__code__", None), "co_names", ()):
        return False
    is_here = all(device_type_of(parameter) in ("cpu", "cuda") for parameter in module.parameters())
    return is_here and _is_known(forward.__globals__.get(NAME))


@functools.cache
def _is_known(own: Callable[..., Any] | None) -> bool:
    """Whether a model's function takes and gives what :func:`rotate` does."""
    if own is None or [*inspect.signature(own).parameters][4:] != ["unsqueeze_dim"]:
        return False

    def inputs(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        half = ramp(2, 3, 2)  # made in here: while shapes are worked on, tensors made elsewhere have no values
        angles = torch.cat([half, half], dim=-1)
        return ramp(2, 4, 3, size), ramp(2, 1, 3, size), angles.cos(), angles.sin()

    # Some turn a part of each head only, if there are angles for no more: Llama's cannot, and neither can this one.
    turns_a_part = gives_the_same(lambda: own(*inputs(6))[0].new_zeros(1), lambda: torch.zeros(1))
    return not turns_a_part and gives_the_same(lambda: own(*inputs(4)), lambda: rotate(*inputs(4)))
