"""Memory: live tensor bytes on CPU, the allocator's peak on CUDA.

PyTorch's CPU allocator keeps no peak, and the process's resident size mixes in everything else. So each operation's
outputs are watched: every storage counts once, from its first appearance until the last reference to it dies. Watching
slows operations down and is never done in timed steps.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from peftlab.core.record import Memory
from peftlab.core.tensors import held_part, model_tensors
from peftlab.measurement.caching_allocator import Block, CachingAllocator
from peftlab.measurement.kernel_workspaces import workspace_bytes

Result = TypeVar("Result")


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its class untyped
    """Counts the bytes of live tensor storages while it is entered.

    Args:
        existing: Tensors from before, to be counted as well.
        allocator: Counts what it hands out for each storage; None: every storage counts as large as it is.

    Attributes:
        current_bytes: Bytes alive now.
        peak_bytes: The most that were alive at once.
    """

    def __init__(self, existing: Iterable[Tensor] = (), *, allocator: CachingAllocator | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._allocator = allocator
        self._blocks: dict[int, Block] = {}
        self.current_bytes = 0
        self.peak_bytes = 0
        self._sizes: dict[int, int] = {}
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._before: list[Any] = []
        self.add(existing)

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were not made under this watcher."""
        for tensor in tensors:
            self._count(tensor)

    def __enter__(self) -> Self:
        """Begin to watch; also storages that are given back and taken again, as those of a sharded base are."""
        own: Any = torch.UntypedStorage.resize_

        def resize(storage: torch.UntypedStorage, size: int) -> Any:
            result = own(storage, size)
            if id(storage) in self._sizes:
                self._note_size(id(storage), storage.nbytes())
            return result

        self._before.append(vars(torch.UntypedStorage).get("resize_"))
        torch.UntypedStorage.resize_ = resize  # type: ignore[assignment]
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        """Put torch's own function back."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        before = self._before.pop()
        if before is None:
            del torch.UntypedStorage.resize_
        else:
            torch.UntypedStorage.resize_ = before  # type: ignore[method-assign]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count the storages of its inputs (they were alive) and outputs."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.prim.device.default:  # what fakes are asked most often, and no tensor comes of it
            return result
        for item in tree_iter((args, kwargs, result)):
            if isinstance(item, Tensor):
                self._count(item)
        if func is _gemm_4bit():
            # The operation unpacks its matrix inside, where no watcher sees it.
            self.peak_bytes = max(self.peak_bytes, self.current_bytes + math.prod(args[2]) * args[0].itemsize)
        if self._allocator is not None and (workspace := workspace_bytes(func, args)):
            block = self._allocator.allocate(workspace)
            self.peak_bytes = max(self.peak_bytes, self._allocator.allocated_bytes)
            self._allocator.free(block)
        return result

    def _count(self, tensor: Tensor) -> None:
        tensor = held_part(tensor)
        if tensor.layout is not torch.strided or tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        # PyTorch gives the same Python object for a storage as long as anything refers to the storage.
        key, size = id(storage), storage.nbytes()
        known = self._sizes.get(key)
        if known is None:
            self._references[key] = weakref.ref(storage, lambda _reference: self._forget(key))
        if known != size:  # new, or resized in place
            self._note_size(key, size)

    def _note_size(self, key: int, size: int) -> None:
        self._change(key, size)
        self.peak_bytes = max(self.peak_bytes, self.current_bytes)

    def _forget(self, key: int) -> None:
        self._references.pop(key, None)
        self._change(key, 0)
        self._sizes.pop(key, None)

    def _change(self, key: int, size: int) -> None:
        known = self._sizes.get(key, 0)
        self._sizes[key] = size
        if self._allocator is None:
            self.current_bytes += size - known
            return
        new = self._allocator.allocate(size) if size else None  # before the old one is given back, as on a card
        old = self._blocks.pop(key, None)
        if old is not None:
            self._allocator.free(old)
        if new is not None:
            self._blocks[key] = new
        self.current_bytes = self._allocator.allocated_bytes


def _gemm_4bit() -> Any:
    """Bitsandbytes' product with a 4-bit matrix, where the library has been imported."""
    library = torch.ops.bitsandbytes
    return library.gemm_4bit.default if "bitsandbytes" in sys.modules and hasattr(library, "gemm_4bit") else None


def peak_of(
    function: Callable[[], Result],
    *,
    device: torch.device,
    existing: Iterable[Tensor] = (),
    allocator: CachingAllocator | None = None,
) -> tuple[Result, int]:
    """Run a function and measure its peak of memory.

    Args:
        function: What to run.
        device: On CUDA the allocator's peak is read; on CPU the live tensor bytes are watched.
        existing: On CPU: tensors from before that count, such as the model's parameters.
        allocator: On CPU: see :class:`LiveBytes`.

    Returns:
        What the function returns, and the peak in bytes.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        result = function()
        return result, torch.cuda.max_memory_allocated(device)
    watcher = LiveBytes(existing, allocator=allocator)
    with watcher:
        result = function()
    return result, watcher.peak_bytes


def measure_training_memory(
    step: Callable[[], Any],
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    steps: int = 2,
    existing: Iterable[Tensor] = (),
    reference: nn.Module | None = None,
    allocator: CachingAllocator | None = None,
) -> Memory:
    """Memory of training steps, by category.

    Args:
        step: Runs one whole step, which clears its gradients at the end.
        model: Trained by it.
        optimizer: Its state exists after the first step; that is why two are run.
        device: Where the model is.
        steps: How many to run.
        existing: On CPU: tensors that count beside the model and the optimizer's state.
        reference: A copy of the base that lies beside the model; it counts among the parameters.
        allocator: On CPU: see :class:`LiveBytes`.

    Returns:
        Bytes of parameters and buffers, of what quantised ones need beside them, of gradients, of the optimizer's
        state, and of the rest at the peak.
    """
    gradient_bytes = 0
    models = [model] if reference is None else [model, reference]
    held = [tensor for each in models for tensor in model_tensors(each)]

    def note_gradients(*_: Any) -> None:
        nonlocal gradient_bytes
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        gradient_bytes = max(gradient_bytes, storage_bytes(gradients))

    handle = optimizer.register_step_pre_hook(note_gradients)
    try:
        _, peak = peak_of(
            lambda: [step() for _ in range(steps)] and None,
            device=device,
            existing=[*held, *optimizer_tensors(optimizer), *existing],
            allocator=allocator,
        )
    finally:
        handle.remove()
    # States in pages, which a card and the CPU share, are on no card, and not in its allocator's peak.
    optimizer_bytes = storage_bytes(each for each in optimizer_tensors(optimizer) if each.device.type == device.type)
    return by_category(models, peak, gradient_bytes=gradient_bytes, optimizer_bytes=optimizer_bytes)


def by_category(models: Sequence[nn.Module], peak: int, *, gradient_bytes: int = 0, optimizer_bytes: int = 0) -> Memory:
    """A peak of memory, by what it is for.

    Args:
        models: Those that are on the device.
        peak: In bytes.
        gradient_bytes: Of gradients; none where nothing trains.
        optimizer_bytes: Of the optimizer's state.
    """
    parameter_bytes = storage_bytes(tensor for each in models for tensor in chain(each.parameters(), each.buffers()))
    quantization_bytes = storage_bytes(tensor for each in models for tensor in model_tensors(each)) - parameter_bytes
    return Memory(
        parameters_bytes=parameter_bytes,
        quantization_bytes=quantization_bytes,
        gradients_bytes=gradient_bytes,
        optimizer_bytes=optimizer_bytes,
        activations_bytes=max(0, peak - parameter_bytes - quantization_bytes - gradient_bytes - optimizer_bytes),
        peak_bytes=peak,
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The tensors of an optimizer's state."""
    return [item for item in tree_iter(dict(optimizer.state)) if isinstance(item, Tensor)]


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind some tensors, each storage once; what is offloaded takes none."""
    parts = map(held_part, tensors)
    storages = [tensor.untyped_storage() for tensor in parts if tensor.device.type != "meta"]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
