"""Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864) as one operation: x · cos + rotate_half(x) · sin.

The rotated halves are never put together, and of the states nothing is kept: the way back needs the angles only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.llama import modeling_llama

from peftlab.fused.code import is_same_code

NAMES = ("apply_rotary_pos_emb", "rotate_half")
"""What a model's file calls the two functions that compute it."""


class FusedRotaryAttention(nn.Module):
    """Takes the place of attention whose model's file turns queries and keys by the same code as Llama's."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the layer's own."""
        own: Any = super().forward
        return _with_fused_rotation(own.__func__)(self, *args, **kwargs)


@functools.cache
def _with_fused_rotation(forward: FunctionType) -> Callable[..., Any]:
    """The same function, to which the rotation's name means the fused one."""
    names = {**forward.__globals__, NAMES[0]: rotate}
    found = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    found.__kwdefaults__ = forward.__kwdefaults__
    return found


def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys, batch × heads × length × size, turned by their positions' angles, batch × length × size."""
    if any(tensor.dtype != torch.float32 for tensor in (query, key, cos, sin)):
        return cast("tuple[Tensor, Tensor]", modeling_llama.apply_rotary_pos_emb(query, key, cos, sin, unsqueeze_dim))
    angles = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    turned = (_Rotation.apply(states, *angles) for states in (query, key))  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor]", tuple(turned))


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(states, cos, *sin.chunk(2, dim=-1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        (gradient,) = gradients
        of_first, of_second = sin.chunk(2, dim=-1)
        return _turn(gradient, cos, -of_second, -of_first), None, None


def _turn(states: Tensor, cos: Tensor, sin_of_first: Tensor, sin_of_second: Tensor) -> Tensor:
    """Each half times cos, less or plus the other one times its own sin."""
    first, second = states.chunk(2, dim=-1)
    turned = states * cos
    turned_first, turned_second = turned.chunk(2, dim=-1)
    turned_first.addcmul_(second, sin_of_first, value=-1)
    turned_second.addcmul_(first, sin_of_second)
    return turned


def can_fuse(module: nn.Module) -> bool:
    """Whether its class turns queries and keys as Llama does, word for word, on CPU."""
    forward = type(module).forward
    if NAMES[0] not in getattr(getattr(forward, "__code__", None), "co_names", ()):
        return False
    return all(is_same_code(forward.__globals__.get(name), getattr(modeling_llama, name)) for name in NAMES) and all(
        parameter.device.type == "cpu" for parameter in module.parameters()
    )
