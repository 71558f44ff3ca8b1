"""Weights of adapters in the type that products are computed in: cast once a step, all in a few operations.

Autocast casts each matrix by itself, and each gradient back: for LoRA on all layers these are a fourth of all kernels
of a step.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from peftlab.acceleration.device import computed_in
from peftlab.acceleration.lora_groups import SharedInputs


class _CastTogether(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kind: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.kinds = [tensor.dtype for tensor in tensors]
        return tuple(_copies(tensors, [kind] * len(tensors)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [(gradient, kind) for gradient, kind in zip(gradients, ctx.kinds, strict=True) if gradient is not None]
        cast = iter(_copies([gradient for gradient, _ in there], [kind for _, kind in there]))
        return None, *(None if gradient is None else next(cast) for gradient in gradients)


def _copies(tensors: Sequence[Tensor], kinds: Sequence[torch.dtype]) -> list[Tensor]:
    copies = [torch.empty_like(tensor, dtype=kind) for tensor, kind in zip(tensors, kinds, strict=True)]
    if copies:
        torch._foreach_copy_(copies, list(tensors))
    return copies


class Casts:
    """What some weights are in the type of the computation, made anew in each forward pass of a model.

    Args:
        weights: All that a step needs.
        shared: Layers that are computed together; None: each is computed by itself.
    """

    def __init__(self, weights: Sequence[nn.Parameter] = (), shared: SharedInputs | None = None) -> None:
        self._weights = list(weights)
        self._found: dict[int, tuple[int, Tensor]] = {}
        self._states: tuple[weakref.ref[Tensor], int, Tensor] | None = None
        self.shared = shared

    def begin(self, _model: nn.Module, _inputs: Any) -> None:
        """Before a forward pass: cast all weights."""
        self._found, self._states = {}, None
        if self.shared is not None:
            self.shared.begin()
        if not self._weights:
            return
        kind = computed_in(self._weights[0])
        weights = [weight for weight in self._weights if weight.dtype != kind]
        if weights:
            cast: Any = _CastTogether.apply(kind, *weights)  # type: ignore[no-untyped-call]
            pairs = zip(weights, cast, strict=True)
            self._found = {id(weight): (weight._version, made) for weight, made in pairs}

    def end(self, _model: nn.Module, _inputs: Any, _outputs: Any) -> None:
        """After a forward pass; the weights stay for those that compute a part of it again in the backward pass."""
        self._states = None

    def weight(self, weight: Tensor, kind: torch.dtype) -> Tensor:
        """A weight in a type: the one that was cast together with all, unless it has changed since."""
        if weight.dtype == kind:
            return weight
        if id(weight) not in self._found:
            return weight.to(kind)
        version, made = self._found[id(weight)]
        wants = weight.requires_grad and torch.is_grad_enabled()
        fits = version == weight._version and made.dtype == kind and made.requires_grad == wants
        return made if fits and not made.is_inference() else weight.to(kind)

    def states(self, states: Tensor, kind: torch.dtype) -> Tensor:
        """States in a type; layers that read the same ones one after the other share them."""
        if states.dtype == kind:
            return states
        if states.is_inference():  # nobody would know whether they have changed since
            return states.to(kind)
        if self._states is not None:
            source, version, made = self._states
            if source() is states and version == states._version and made.dtype == kind and not made.is_inference():
                return made
        made = states.to(kind)
        self._states = (weakref.ref(states), states._version, made)
        return made

    def __deepcopy__(self, _memo: Any) -> Casts:
        """Of a model's copy, which is cast weight by weight."""
        return Casts()
