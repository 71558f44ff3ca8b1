"""What some work asks of a card, recorded once and asked for again by a single call: CUDA graphs.

A small model's step waits for the host, which launches a thousand kernels one by one. A graph launches them all.
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch

Replay = Callable[[], None]


class Recorder(Protocol):
    """Records work on tensors that stay where they are."""

    def record(self, work: Callable[[], None]) -> Replay:
        """Note what a function asks of the device, in an order that never changes, without doing it.

        Args:
            work: Reads tensors and writes into tensors that outlive it; what it decides on the host is decided once.

        Returns:
            Does all of it with what the tensors hold then, and with new random numbers.

        Raises:
            Exception: The work cannot be recorded, such as where the host must know a result to go on.
        """


_streams: dict[int, Any] = {}
"""By card, for the whole process: each that is recorded on has a workspace of cuBLAS for good."""


def _stream_of(card: int) -> Any:
    """The stream that is recorded on. Torch's own is of the first card that it has recorded on, whichever is asked."""
    if card not in _streams:
        _streams[card] = torch.cuda.Stream(card)  # type: ignore[no-untyped-call]
    return _streams[card]


class CudaRecorder:
    """Records into CUDA graphs. All share their memory, so only one of them may be computed at a time.

    Args:
        device: The card.
    """

    def __init__(self, device: torch.device) -> None:
        self._index = torch.cuda.current_device() if device.index is None else device.index
        self._graphs: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pool: Any = None

    def record(self, work: Callable[[], None]) -> Replay:
        """As :class:`Recorder` says. The card is waited for once."""
        if not self._graphs:  # the memory of graphs that are gone is gone too, and its name must not be used again
            self._pool = torch.cuda.graph_pool_handle()
        graph: Any = torch.cuda.CUDAGraph()
        generator: Any = torch.cuda.default_generators[self._index]
        before, began = generator.clone_state(), False
        try:
            # Where a recording fails torch leaves its stream the current one, and the generator as if it went on.
            with contextlib.ExitStack() as stack:
                stack.enter_context(torch.cuda.stream(torch.cuda.current_stream(self._index)))
                # Another thread pins the next batches meanwhile, which only a mode of this thread's own allows.
                mode: dict[str, Any] = {"stream": _stream_of(self._index), "capture_error_mode": "thread_local"}
                stack.enter_context(torch.cuda.graph(graph, pool=self._pool, **mode))
                began = True
                work()
        except BaseException:
            generator.graphsafe_set_state(before)
            if began:
                self._close(graph)
            raise
        self._graphs.add(graph)
        replay: Replay = graph.replay
        return replay

    def _close(self, graph: Any) -> None:
        """Give back what a failed recording holds.

        Where the work has failed but the recording came to its end, the graph gives its memory back itself. Else the
        allocator would keep the memory, and defer all else, until it is told. Told twice, it ends the process: a torch
        whose graphs do both themselves must not be told (https://github.com/pytorch/pytorch/pull/190348).
        """
        try:
            graph.pool()
        except RuntimeError:  # it never ended
            self._tell_allocator()
        else:
            graph.reset()

    def _tell_allocator(self) -> None:
        library: Any = torch._C
        for close in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            with contextlib.suppress(RuntimeError, AttributeError):
                getattr(library, close)(self._index, self._pool)
