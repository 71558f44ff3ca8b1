"""Which device parts are chosen for: that of their tensors, or one that they stand in for.

What a card would compute can be tried, counted and estimated on CPU: there the tensors say ``cpu``, and the choice is
made as if they did not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

FLOATS_ON_CARD = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True)
class Card:
    """A device.

    Args:
        type: ``cuda`` or ``cpu``.
        memory_bytes: What it has; None where that is not known.
    """

    type: str
    memory_bytes: int | None = None


_stands_in: ContextVar[Card | None] = ContextVar("stands_in", default=None)


@contextlib.contextmanager
def as_if_on(card: Card) -> Iterator[None]:
    """Choose parts as if all tensors were on a card, as long as the context lasts."""
    token = _stands_in.set(card)
    try:
        yield
    finally:
        _stands_in.reset(token)


def card_of(tensor: Tensor) -> Card:
    """The device that computation with a tensor is chosen for."""
    chosen = _stands_in.get()
    if chosen is not None:
        return chosen
    if tensor.device.type == "cuda":
        return Card("cuda", torch.cuda.get_device_properties(tensor.device).total_memory)
    return Card(tensor.device.type)


def device_type_of(tensor: Tensor) -> str:
    """``cuda``, ``cpu`` or another, as :func:`card_of` says; ``meta`` where what is offloaded is not here."""
    chosen = _stands_in.get()
    return tensor.device.type if chosen is None or tensor.is_meta else chosen.type


def is_fused_for(*tensors: Tensor) -> bool:
    """Whether the operations here are made for tensors: of float32 on CPU, of all common floats on CUDA."""
    kinds = {"cpu": (torch.float32,), "cuda": FLOATS_ON_CARD}
    return all(tensor.dtype in kinds.get(device_type_of(tensor), ()) for tensor in tensors)


def computed_in(states: Tensor) -> torch.dtype:
    """The type that products with states are computed in: autocast's, or their own."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
