"""8-bit layers that do not keep their inputs.

bitsandbytes' product for training on CPU keeps every layer's input until the backward pass, though only the gradient of
a trained 8-bit matrix would need it, and keeps it where gradient checkpointing does not see it. The matrices here are
frozen, so the same product is done without.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 127
"""An 8-bit matrix is ``integers × row's scale / 127``."""


class _FrozenProduct(torch.autograd.Function):
    """x Wᵀ + b for an 8-bit W that has no gradient."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, integers: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(integers, scales)
        return functional.linear(inputs, _unpack(integers, scales, inputs.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        integers, scales = ctx.saved_tensors
        return gradient @ _unpack(integers, scales, gradient.dtype), None, None, None


def forget_inputs(layer: Any) -> None:
    """Let an 8-bit layer train on CPU without keeping its inputs; in eval mode, and on CUDA, it is as it was."""
    layer.forward = functools.partial(_forward, layer)


def _forward(layer: Any, inputs: Tensor) -> Tensor:
    if layer.weight.SCB is None:
        # peft, which unpacks the matrix for DoRA, leaves a parameter that asks for a new state but has lost its scales;
        # the layer has had them since its first forward.
        layer.weight.CB = None
    if not layer.training or inputs.device.type != "cpu":
        result: Tensor = type(layer).forward(layer, inputs)
        return result
    if layer.weight.CB is not None:
        layer.init_8bit_state()
    bias = None if layer.bias is None else layer.bias.to(inputs.dtype)
    product: Tensor = _FrozenProduct.apply(inputs, layer.state.CB, layer.state.SCB, bias)  # type: ignore[no-untyped-call]
    return product


def _unpack(integers: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    return integers.to(dtype).mul_(scales.unsqueeze(1).mul(1.0 / LEVELS))
