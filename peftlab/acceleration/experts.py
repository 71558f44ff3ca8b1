"""A mixture's experts with LoRA: each token by the low-rank updates of its own experts.

peft adds the product B A of every expert to its matrix in each pass, and autograd keeps the sums for the backward pass:
a copy of all experts of all layers, most of which no token was sent to. Here it is s (x Aᵀ) Bᵀ beside x Wᵀ, by grouped
products over the tokens of each expert, as transformers computes x Wᵀ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor
from transformers.integrations.moe import _grouped_linear

ALIGNMENT = 16
"""Bytes of which a row of low rank has to be a multiple, for grouped products."""


@dataclass(frozen=True)
class _Update:
    """The update of one tensor of experts: A is experts × rank × inputs, B is experts × outputs × rank."""

    down: Tensor
    up: Tensor
    scaling: float


class FusedExperts(ParamWrapper):  # type: ignore[misc] # peft leaves its class untyped
    """The outermost of the wrappers around experts."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Tokens × size to tokens × size, by the experts that were chosen for each token."""
        updates = self._updates() if len(args) == 2 and not kwargs else None
        if updates is None:
            return cast("Tensor", super().forward(hidden_states, *args, **kwargs))
        return _computed(self.get_base_layer(), updates, hidden_states, *args)

    def _updates(self) -> dict[str, _Update] | None:
        """By the tensor's name; None where they are not just one adapter's, or of another kind."""
        found: dict[str, _Update] = {}
        layer: Any = self
        while isinstance(layer, ParamWrapper):
            active = layer.active_adapters
            if layer.disable_adapters or layer.merged or len(active) != 1 or active[0] not in layer.lora_A:
                return None
            matrices = layer.get_param()
            down, up = (part[active[0]].weight.to(matrices.dtype) for part in (layer.lora_A, layer.lora_B))
            down = down.unflatten(0, (layer.num_experts, -1))
            up = up.unflatten(1, (-1, layer.num_experts)).permute(2, 0, 1).contiguous()
            if down.shape[1] * down.itemsize % ALIGNMENT:
                return None
            found[layer.parameter_name] = _Update(down, up, layer.scaling[active[0]])
            layer = layer.base_layer
        return found


def _computed(
    experts: Any, updates: dict[str, _Update], hidden_states: Tensor, chosen: Tensor, shares: Tensor
) -> Tensor:
    """As transformers' ``grouped_mm_experts_forward``, with the updates.

    Args:
        experts: Of one layer.
        updates: By the tensor's name.
        hidden_states: Tokens × size.
        chosen: Tokens × experts of each, as their numbers.
        shares: What each of these counts.
    """
    count = chosen.shape[-1]
    numbers, order = torch.sort(chosen.reshape(-1))
    # On CPU only floats can be counted so, and on a card with deterministic algorithms only integers.
    counted = numbers.float() if numbers.device.type == "cpu" else numbers.int()
    sizes = torch.histc(counted, bins=experts.num_experts, min=0, max=experts.num_experts - 1)
    ends = torch.cumsum(sizes, dim=0, dtype=torch.int32)

    def product(name: str, rows: Tensor) -> Tensor:
        bias = getattr(experts, f"{name}_bias")[numbers] if experts.has_bias else None
        outputs = _grouped_linear(rows, getattr(experts, name), ends, bias=bias, is_transposed=experts.is_transposed)
        update = updates.get(name)
        if update is None:
            return outputs
        low = _grouped_linear(rows, update.down, ends)
        return outputs + update.scaling * _grouped_linear(low, update.up, ends)

    wide = product(_first(experts), hidden_states[order // count])
    wide = experts._apply_gate(wide) if experts.has_gate else experts.act_fn(wide)
    rows = product("down_proj", wide) * shares.reshape(-1)[order].unsqueeze(-1)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return rows[back].view(*chosen.shape, -1).sum(dim=1).to(hidden_states.dtype)


def _first(experts: Any) -> str:
    return "gate_up_proj" if experts.has_gate else "up_proj"


def can_fuse(module: Any) -> bool:
    """Whether these are wrappers around experts that transformers computes by grouped products, all in this process."""
    if type(module) is not ParamWrapper:
        return False
    experts, names, layer = module.get_base_layer(), set(), module
    while isinstance(layer, ParamWrapper):
        names.add(layer.parameter_name)
        layer = layer.base_layer
    # What transformers' decorator tells of a class whose experts it knows how to compute.
    is_known = all(hasattr(experts, name) for name in ("has_gate", "has_bias", "is_transposed", "num_experts"))
    return (
        is_known
        and names <= {_first(experts), "down_proj"}
        and getattr(experts.config, "_experts_implementation", None) == "grouped_mm"
        and not getattr(experts, "_is_expert_parallel", False)
        and not getattr(experts, "has_post_expert_norm", False)
    )
