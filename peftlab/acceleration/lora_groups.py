"""Layers with LoRA that read the same states one after the other, such as query, key and value, in fewer operations.

Their matrices A are one matrix for the time of a product, and the gradients by their common states are added up where
they are computed. The first of them computes all, and the others find their outputs there. Where one of them does not
ask for it, it computes by itself, and so do all of them from the next forward pass on.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from peftlab.acceleration.first_token import computes_first_token_only
from peftlab.acceleration.lora_matrices import LoraMatrices

NAMES = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("gate_proj", "up_proj"),
)
"""Of layers in one part of a model that read the states which the part is given, in the order in which they do."""
OTHER_STATES = ("encoder_hidden_states", "key_value_states")
"""Arguments of parts whose keys and values may read others."""


class SharedInputs:
    """Which layers of a model share their inputs.

    Args:
        model: All that there is; its layers with LoRA are those that have ``lora_matrices``.
    """

    def __init__(self, model: nn.Module) -> None:
        self._groups: dict[int, tuple[Any, ...]] = {}
        self._ready: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}
        for part in model.modules():
            for names in NAMES:
                asking = 1 if computes_first_token_only(part) else 0
                layers = [getattr(part, name, None) for name in names[asking:]]
                are_there = len(layers) > 1 and all(hasattr(layer, "lora_matrices") for layer in layers)
                if are_there and not _reads_other_states(part):
                    self._groups |= {id(layer): tuple(layers) for layer in layers}

    def begin(self) -> None:
        """Before a forward pass: those are apart that were not asked for in the last one."""
        for place in [*self._ready]:
            for layer in self._groups.get(place, ()):
                self._groups.pop(id(layer), None)
        self._ready.clear()

    def others(self, layer: Any) -> tuple[Any, ...]:
        """The layers that a layer computes together with itself, which come after it."""
        first, *others = self._groups.get(id(layer), (None,))
        return tuple(others) if first is layer else ()

    def keep(self, layer: Any, states: Tensor, outputs: Tensor) -> None:
        """Keep a layer's outputs until it is asked for them."""
        self._ready[id(layer)] = (weakref.ref(states), states._version, outputs)

    def take(self, layer: Any, states: Tensor) -> Tensor | None:
        """A layer's outputs, if they were computed of these states."""
        if id(layer) not in self._ready:
            return None
        source, version, outputs = self._ready[id(layer)]
        if source() is not states or version != states._version:
            return None
        del self._ready[id(layer)]
        return outputs


def _reads_other_states(part: nn.Module) -> bool:
    return any(name in inspect.signature(part.forward).parameters for name in OTHER_STATES)


def computed_together(states: Tensor, layers: Sequence[LoraMatrices]) -> tuple[Tensor, ...]:
    """Outputs of several layers of n × inputs."""
    flat = [tensor for layer in layers for tensor in (layer.weight, layer.bias, layer.down, layer.up)]
    found: tuple[Tensor, ...] = _Together.apply(states, tuple(layer.scaling for layer in layers), *flat)  # type: ignore[no-untyped-call]
    return found


class _Together(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, scaling: tuple[float, ...], *flat: Tensor) -> tuple[Tensor, ...]:
        weights, biases, downs, ups = (flat[kind::4] for kind in range(4))
        down = torch.cat(downs)
        low = functional.linear(states, down)
        ctx.ranks, ctx.scaling = [len(own) for own in downs], scaling
        trained = any(ctx.needs_input_grad[4::4])
        ctx.save_for_backward(states if trained else None, down, low, *weights, *ups)
        return tuple(
            functional.linear(states, weight, bias).addmm_(part, up.t(), alpha=factor)
            for weight, bias, up, part, factor in zip(
                weights, biases, ups, torch.split(low, ctx.ranks, dim=1), scaling, strict=True
            )
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        states, down, low, *others = ctx.saved_tensors
        weights, ups = others[: len(gradients)], others[len(gradients) :]
        of_low = low.new_empty(low.shape)
        lows, of_lows = (torch.split(whole, ctx.ranks, dim=1) for whole in (low, of_low))
        wanted = ctx.needs_input_grad[2:]
        of_states: Tensor | None = None
        of_ups: list[Tensor | None] = []
        for place, (gradient, weight, up) in enumerate(zip(gradients, weights, ups, strict=True)):
            matrices = LoraMatrices(weight, None, down, up, ctx.scaling[place])
            of_ups.append(matrices.of_up(gradient, lows[place]) if wanted[4 * place + 3] else None)
            of_lows[place].addmm_(gradient, up, beta=0, alpha=matrices.scaling)
            if ctx.needs_input_grad[0]:
                of_states = gradient @ weight if of_states is None else of_states.addmm_(gradient, weight)
        if of_states is not None:
            of_states.addmm_(of_low, down)
        of_downs = torch.split(of_low.t() @ states, ctx.ranks) if any(wanted[2::4]) else [None] * len(gradients)
        found: list[Tensor | None] = []
        for place, (of_down, of_up) in enumerate(zip(of_downs, of_ups, strict=True)):
            found += [None, None, of_down if wanted[4 * place + 2] else None, of_up]
        return of_states, None, *found
