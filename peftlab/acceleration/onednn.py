"""Products of float32 matrices on CPU, by the faster of torch's two libraries on this make of processor.

PyTorch multiplies them by MKL, which leaves a part of the speed of AMD's processors unused. PyTorch is built with
oneDNN as well, and that does not: products of the sizes of BERT's layers take a tenth less time without AVX-512, and
less than half of it with AVX-512. On Intel's processors MKL is the faster one, and layers stay as torch has them. The
results agree to rounding. The make alone decides, not a trial: two runs on one machine give the same numbers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from peftlab.acceleration.device import device_type_of

SMALLEST = 64
"""Layers with fewer inputs or outputs gain nothing: calling costs them more than computing."""


@contextlib.contextmanager
def through_onednn(model: nn.Module) -> Iterator[int]:
    """Compute a model's plain linear layers by oneDNN, forward and back to their inputs, as long as the context lasts.

    Layers on other devices, of other types, or of other classes, such as quantised ones, are left as they are.

    Yields:
        How many layers these are.
    """
    layers = use_onednn(model)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            layer.__class__ = nn.Linear


def use_onednn(model: nn.Module) -> list[nn.Module]:
    """Compute a model's plain linear layers by oneDNN from now on, where that is the faster library.

    Returns:
        The layers; they become plain again with their class.
    """
    layers = [module for module in model.modules() if _gains(module)] if is_chosen() else []
    for layer in layers:
        layer.__class__ = OneDnnLinear
    return layers


class OneDnnLinear(nn.Linear):
    """A linear layer that computes by oneDNN, except under autocast."""

    def forward(self, states: Tensor) -> Tensor:
        """… × inputs to … × outputs."""
        if torch.is_autocast_enabled("cpu") or states.dtype != torch.float32 or not states.numel():
            return super().forward(states)  # oneDNN knows no products of nothing
        return multiply(states, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """states · weightᵀ + bias, for n × inputs."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(states if ctx.needs_input_grad[1] else None, weight)
        return product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad
        (gradient,) = gradients
        return (
            product(gradient, weight.t()) if of_states else None,
            sum_over_tokens(gradient, states) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def multiply(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`product` that can be differentiated, and changed in place."""
    # Of more than two dimensions oneDNN gives a view; what a Function gives as a view must not be changed in place.
    rows = _Product.apply(states.reshape(-1, states.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return cast("Tensor", rows.view(*states.shape[:-1], weight.shape[0]))


def product(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """States · weightᵀ + bias by oneDNN, of float32 tensors on CPU.

    Args:
        states: … × inputs.
        weight: Outputs × inputs.
        bias: Outputs.

    Returns:
        … × outputs.
    """
    found: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return found


def sum_over_tokens(left: Tensor, right: Tensor) -> Tensor:
    """Leftᵀ · right, of float32 tensors on CPU.

    Args:
        left: N × outputs.
        right: N × inputs.

    Returns:
        Outputs × inputs.
    """
    return product(left.t(), right.t()) if is_chosen() else left.t() @ right


def linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As torch's ``linear``, by the faster library on CPU; outside of autocast."""
    if states.dtype == weight.dtype == torch.float32 and device_type_of(weight) == "cpu" and is_chosen():
        return product(states, weight, bias)
    return functional.linear(states, weight, bias)


def is_chosen() -> bool:
    """Whether oneDNN is there, and the faster library on this make of processor."""
    return is_available() and not is_intel()


@functools.cache
def is_available() -> bool:
    """Whether torch has the operation: it is one of its compiler's, which other builds may lack."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn, "_linear_pointwise"
    )


@functools.cache
def is_intel() -> bool:
    """Whether Linux says that the processor is Intel's, and torch has MKL, which is made for it."""
    try:
        makes = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # another system
        return False
    return "GenuineIntel" in makes and bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]


def _gains(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and device_type_of(module.weight) == "cpu"
        and module.weight.dtype == torch.float32
        and min(module.weight.shape) >= SMALLEST
    )
