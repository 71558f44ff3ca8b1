"""Tensors in the host's memory. Pinned, a card reads it by itself, while it computes.

Torch pins powers of two: a matrix of 130 MiB, as Qwen2.5-7B has them, would take 256. So tensors lie behind one another
in large blocks. https://github.com/pytorch/pytorch/issues/150517
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_BLOCK = 1 << 30
ALIGNMENT = 256


@dataclass
class _Block:
    """Pinned bytes, and how many of them are in use."""

    room: Tensor
    used: int = 0


class HostMemory:
    """Keeps tensors by the layer that they are of.

    Args:
        size: Bytes of all that will be put here, as far as they are known.
        pins: Whether they lie in pinned memory.

    Attributes:
        is_refused: Whether the system gave no more of that.
    """

    def __init__(self, size: int = 0, *, pins: bool) -> None:
        self._held: dict[str, dict[str, Tensor]] = {}
        self._blocks: list[_Block] = []
        self._left, self._pins, self.is_refused = size, pins, False

    def put(self, layer: str, tensors: Mapping[str, Tensor]) -> None:
        """Put a layer's parameters away."""
        self._held[layer] = {key: self._pinned(tensor.cpu()) for key, tensor in tensors.items()}

    def read(self, layer: str) -> dict[str, Tensor]:
        """A layer's parameters."""
        return self._held[layer]

    def _pinned(self, tensor: Tensor) -> Tensor:
        size = -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        if not self._pins or self.is_refused or not size:
            return tensor
        try:
            block = self._with_room(size)
        except RuntimeError:
            self.is_refused = True
            return tensor
        own = block.room[block.used : block.used + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        block.used += size
        self._left -= tensor.nbytes
        return own.copy_(tensor)

    def _with_room(self, size: int) -> _Block:
        """A block with so many bytes left: the first one, or a new one of a power of two."""
        found = next((block for block in self._blocks if len(block.room) - block.used >= size), None)
        if found is None:
            whole = min(LARGEST_BLOCK, 1 << max(0, self._left.bit_length() - 1))
            whole = max(whole, 1 << (size - 1).bit_length())
            found = _Block(torch.empty(whole, dtype=torch.uint8, pin_memory=True))
            self._blocks.append(found)
        return found
