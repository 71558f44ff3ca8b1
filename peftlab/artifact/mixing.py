"""A batch in which every example has its own LoRA adapter.

peft can do this too (``adapter_names``), but takes the batch apart in every layer, adapter by adapter. Here the
matrices of all adapters stand side by side: h = W x + [B₁ B₂ …] (m ⊙ [A₁; A₂; …] x), where m lets each example keep the
part of its own adapter. Ranks are small, so what is computed for nothing costs less than taking the batch apart.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import peft
import torch
from torch import Tensor, nn
from torch.nn import functional

NO_CLASS = -1e4
"""Stands in for the logits that a head does not have: finite in half precision too, and no class's."""


def let_adapters_mix(model: nn.Module) -> None:
    """Prepare a model, in place, for batches whose examples have different adapters; others it computes as before.

    Args:
        model: A ``PeftModel`` with LoRA adapters for which ``can_share_batches`` holds.
    """
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.forward = functools.partial(_lora, module, module.forward)
        elif isinstance(module, peft.utils.ModulesToSaveWrapper):
            module.forward = functools.partial(_whole, module, module.forward)


class MixedBatch(nn.Module):
    """A model in whose batches every example has its own adapter; for inference.

    Several threads may compute such batches at once, as long as nobody changes the model.

    Args:
        model: One that ``let_adapters_mix`` has prepared.
        names: The adapter of each example.
    """

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, list(names)

    @torch.inference_mode()
    def forward(self, **inputs: Any) -> Any:
        """The model's own output."""
        _current.parts = _Parts(self.names)
        try:
            return self.model(**inputs)
        finally:
            _current.parts = None


class _Parts:
    """Which examples have which adapter.

    Args:
        names: The adapter of each example.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(dict.fromkeys(names))
        self.rows = {name: [at for at, other in enumerate(names) if other == name] for name in self.names}
        self.count = len(names)
        self._masks: dict[tuple[int, ...], Tensor] = {}

    def mask(self, ranks: tuple[int, ...], like: Tensor) -> Tensor:
        """Examples × ranks of all adapters: 1 where the rank is of the example's adapter."""
        if ranks not in self._masks:
            mask = torch.zeros(self.count, sum(ranks), dtype=like.dtype, device=like.device)
            start = 0
            for name, rank in zip(self.names, ranks, strict=True):
                mask[self.rows[name], start : start + rank] = 1
                start += rank
            self._masks[ranks] = mask
        return self._masks[ranks]


class _Current(threading.local):
    """What the batch of this thread consists of; None where it has one adapter only."""

    parts: _Parts | None = None


_current = _Current()


def _lora(layer: Any, alone: Callable[..., Tensor], states: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """States: examples × … × inputs."""
    parts = _current.parts
    if parts is None:
        return alone(states, *arguments, **options)
    result: Tensor = layer.base_layer(states, *arguments, **options)
    first = torch.cat([layer.lora_A[name].weight for name in parts.names])
    second = torch.cat([layer.lora_B[name].weight * layer.scaling[name] for name in parts.names], dim=1)
    inner = functional.linear(states.to(first.dtype), first)
    if len(parts.names) > 1:
        mask = parts.mask(tuple(layer.lora_A[name].out_features for name in parts.names), inner)
        inner *= mask.view(len(mask), *[1] * (inner.ndim - 2), -1)
    if result.dtype != second.dtype:
        return result + functional.linear(inner, second).to(result.dtype)
    # Added as it is computed: the result is not written and read once more.
    result.view(-1, result.shape[-1]).addmm_(inner.view(-1, inner.shape[-1]), second.T)
    return result


def _whole(wrapper: Any, alone: Callable[..., Tensor], states: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """A layer that each adapter has trained whole, such as the head: few rows, one adapter after the other.

    Heads may have different numbers of outputs: the shorter rows end in ``NO_CLASS``.
    """
    parts = _current.parts
    if parts is None:
        return alone(states, *arguments, **options)
    found: dict[int, Tensor] = {}
    for name in parts.names:
        rows = parts.rows[name]
        found.update(zip(rows, wrapper.modules_to_save[name](states[rows]), strict=True))
    most = max(row.shape[-1] for row in found.values())
    return torch.stack([_widened(found[row], most) for row in range(parts.count)])


def _widened(outputs: Tensor, most: int) -> Tensor:
    missing = most - outputs.shape[-1]
    return functional.pad(outputs, (0, missing), value=NO_CLASS) if missing else outputs
