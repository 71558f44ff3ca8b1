"""Micro-batches: a batch that is too large is computed in pieces, whose gradients add up to the same step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class MicroBatches:
    """How many examples are computed at once; it shrinks when memory runs out.

    Args:
        size: Examples; None: whole batches.
        may_shrink: Whether a step that runs out of memory is tried again with half of it.
        cuts_batches: Whether a step is made of smaller batches; else the batches stay whole, and what is computed of
            them at once is smaller.
    """

    size: int | None = None
    may_shrink: bool = False
    cuts_batches: bool = True

    def split(self, batches: Sequence[Sequence[int]]) -> list[list[int]]:
        """The pieces of a step's batches."""
        return split_batches(batches, self.size if self.cuts_batches else None)

    def halve(self, batches: Sequence[Sequence[int]]) -> bool:
        """Compute half as many at once from now on.

        Args:
            batches: Of the step that did not fit.

        Returns:
            Whether there was something to halve: a single example cannot be cut.
        """
        largest = max(len(piece) for piece in split_batches(batches, self.size))
        if largest == 1:
            return False
        self.size = largest // 2
        return True

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as the interrupted run did: another size would add the same gradients up in another order."""
        self.size = state["size"]


def split_batches(batches: Sequence[Sequence[int]], size: int | None) -> list[list[int]]:
    """Cut batches into pieces of at most so many examples."""
    if size is None:
        return [list(batch) for batch in batches]
    return [list(batch[start : start + size]) for batch in batches for start in range(0, len(batch), size)]


OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "HIP error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "Triton Error [HIP]: out of memory",
    "'out of memory'",
    "_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
)
"""What torch's allocator for CPUs says, the driver, Triton, NCCL, and cuBLAS, cuDNN and their kin, which have their
own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on CUDA or on CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY)
