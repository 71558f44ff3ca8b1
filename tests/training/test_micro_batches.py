"""Batches in pieces, and what happens when memory runs out."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from peftlab.training.micro_batches import MicroBatches, is_out_of_memory, split_batches


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=9), max_size=5), st.none() | st.integers(1, 10))
def test_pieces_hold_the_same_examples_in_the_same_order(batches: list[list[int]], size: int | None) -> None:
    pieces = split_batches(batches, size)
    assert [x for piece in pieces for x in piece] == [x for batch in batches for x in batch]
    assert all(0 < len(piece) <= (size or 9) for piece in pieces)


def test_halving_ends_at_one_example() -> None:
    micro, batches, sizes = MicroBatches(may_shrink=True), [list(range(11)), [11, 12]], []
    while micro.halve(batches):
        sizes.append(micro.size)
    assert sizes == [5, 2, 1]


def test_what_says_that_memory_ran_out() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    # Beside a full allocator the driver and the libraries find nothing either, and say it in their own words.
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate`")
    )
    for words in (
        "HIP error: out of memory\nHIP kernel errors might be reported later",
        "Triton Error [CUDA]: out of memory",
        "NCCL error in: NCCLUtils.cpp:94, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ):
        assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
