"""The same bits every time: CPU kernels give them anyway, CUDA has kernels whose sums come out in any order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def determinism(wanted: bool, device: torch.device) -> Iterator[None]:
    """Let a block use only kernels that repeat themselves; afterwards all is as before.

    On CPU nothing is set. cuBLAS needs a variable beside this, set before CUDA starts, as ``run_recipe`` does.
    https://docs.pytorch.org/docs/stable/notes/randomness.html

    Args:
        wanted: False leaves everything to PyTorch, whose other kernels can be faster.
        device: Where the block computes.
    """
    if not wanted or device.type != "cuda":
        yield
        return
    memory: Any = torch.utils.deterministic  # its stubs do not name what it has
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
    )
    torch.use_deterministic_algorithms(True)
    # Meant for finding reads of memory that nobody wrote; each new tensor would be written once more.
    memory.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = before[2]
        torch.backends.cudnn.benchmark = before[3]


def lacks_determinism(error: BaseException) -> bool:
    """Whether an operation was asked for that has no kernel which repeats itself."""
    return isinstance(error, RuntimeError) and "does not have a deterministic implementation" in str(error)
