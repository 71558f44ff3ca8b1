"""What CUDA's kernels take beside their inputs and outputs, where it is much: a sum over rows.

A bias's gradient is one. Where outputs are few, blocks of threads share each of them and meet in a buffer, which can
be larger than the tensor that is summed. The rules are those of ``setReduceConfig`` in ATen's ``cuda/Reduce.cuh``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

THREADS = 512
"""Of a block, at most."""
WARP = 32
VECTOR = 4
"""Outputs of a thread."""
CARD_THREADS = 132 * 2048
"""That an H100 runs at once. Smaller cards share less, and need smaller buffers."""
LEAST_VALUES, MOST_VALUES = 16, 256
"""That a thread adds up."""


def workspace_bytes(operation: Any, args: Sequence[Any]) -> int:
    """What an operation takes while it runs, beside its inputs and outputs."""
    if operation is torch.ops.aten.sum.dim_IntList and isinstance(args[0], Tensor):
        return _of_sum(args[0], args[1])
    return 0


def _of_sum(states: Tensor, dims: Sequence[int] | None) -> int:
    """Of a sum over the first dimensions of a tensor; sums over the last ones need next to nothing."""
    summed = {dim % states.dim() for dim in dims or ()} if states.dim() else set()
    if not summed or summed != set(range(len(summed))) or len(summed) == states.dim() or not states.is_contiguous():
        return 0
    outputs = math.prod(states.shape[len(summed) :])
    vector = next(size for size in (VECTOR, 2, 1) if states.shape[-1] % size == 0)
    return buffer_bytes(rows=states.numel() // max(1, outputs), outputs=outputs, vector=vector)


def buffer_bytes(*, rows: int, outputs: int, vector: int = VECTOR) -> int:
    """Of a sum of rows, in float32.

    Args:
        rows: Of the tensor.
        outputs: Numbers of a row.
        vector: Outputs of a thread.
    """
    if not outputs or not rows:
        return 0
    most = THREADS // vector
    wide, high = (min(_power_below(size), most) for size in (outputs // vector, rows))
    height = min(high, most // min(wide, WARP))
    width = min(wide, most // height)
    if rows < min(height * LEAST_VALUES, MOST_VALUES):
        return 0
    values = math.ceil(rows / height)
    grid = math.ceil(outputs / vector / width)
    at_once = CARD_THREADS // (width * height)
    if values < MOST_VALUES or grid > at_once:
        return 0
    shared = max(
        min(math.ceil(at_once / grid), math.ceil(values / LEAST_VALUES)),
        math.ceil(values / MOST_VALUES),
    )
    return torch.float32.itemsize * outputs * shared * width * vector if shared > 1 else 0


def _power_below(size: int) -> int:
    """The largest power of two that is not larger; 1 at least."""
    return 1 << max(0, size.bit_length() - 1)
