"""What a training step asks of a card, counted without one: kernels, bytes kept, reads of a matrix, waits.

Operations are seen as PyTorch dispatches them, forward and backward. On fake tensors, which have shapes only, a model
of any size is counted in seconds.
"""

from __future__ import annotations

import math
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_iter

WITHOUT_KERNEL = frozenset(
    {"detach", "alias", "_unsafe_view", "_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty",
     "new_empty_strided", "lift_fresh", "set_", "resize_", "device", "sym_size", "sym_numel"}
)  # fmt: skip
"""Operations that only describe memory, or take some, beside all that give a view."""
PRODUCTS = frozenset({"mm", "addmm", "addmm_", "bmm", "baddbmm", "linear", "_linear_pointwise"})
WAITING = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"})
"""Operations whose result the host needs at once. ``.item()``, ``float(tensor)`` and ``if tensor`` are the first."""
COPYING = frozenset({"cpu", "tolist", "numpy"})
"""Methods of tensors that copy to the host; on CPU they dispatch nothing."""
ON_HOST = frozenset({"collate", "note_padding", "look_at", "generator_states", "attend_text_by_text"})
"""Functions whose tensors are on the host also where the model is on a card, or which a card has a kernel for."""
TENSORS_A_KERNEL = 48
"""Of a ``_foreach_`` operation. PyTorch's limits are 110 with one list of tensors, and 30 with five."""


class StepCounter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its class untyped
    """Counts operations while it is entered.

    Args:
        read: A matrix, such as a head's, whose reads by products are counted.

    Attributes:
        kernels: Operations that launch a kernel, by name. A product with a bias counts once, and so does attention.
        reads: Products that had the matrix, or a part of it, as an operand.
    """

    def __init__(self, read: Tensor | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._read = None if read is None else read.untyped_storage()._cdata
        self.kernels: Counter[str] = Counter()
        self.reads = 0

    @property
    def total(self) -> int:
        """All kernels."""
        return self.kernels.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operation, and run it."""
        name = func.overloadpacket.__name__
        result = func(*args, **(kwargs or {}))
        is_empty = isinstance(result, Tensor) and not result.numel()
        if not func.is_view and not is_empty and name not in WITHOUT_KERNEL | WAITING:
            self.kernels[name] += _launches(name, args)
            self.reads += name in PRODUCTS and any(self._is_read(item) for item in tree_iter(args))
        return result

    def _is_read(self, item: Any) -> bool:
        return isinstance(item, Tensor) and item.untyped_storage()._cdata == self._read


def _launches(name: str, args: Any) -> int:
    """Kernels of an operation; one on many tensors takes several."""
    many = name.startswith(("_foreach_", "_fused_adam")) and args and isinstance(args[0], list | tuple)
    return math.ceil(len(args[0]) / TENSORS_A_KERNEL) if many else 1


class WaitCounter:
    """Counts, while it is entered, where the host would wait for a card; for real tensors, on CPU.

    Attributes:
        waits: Lines of code that asked for a value, and how often.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self._modes = (_WaitingOperations(self.waits), _CopyingMethods(self.waits))

    def __enter__(self) -> Self:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _WaitingOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        # A mask in the place of an index is turned into places first.
        indices = args[1] if name in {"index", "index_put", "index_put_", "_index_put_impl_"} else ()
        masks = any(isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8) for item in indices)
        if name in WAITING or masks:
            _note(self._waits)
        return func(*args, **(kwargs or {}))


class _CopyingMethods(TorchFunctionMode):
    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in COPYING:
            _note(self._waits)
        return func(*args, **(kwargs or {}))


def _note(waits: Counter[str]) -> None:
    """The line of a library or of peftlab that asked; torch's own are passed over."""
    stack = [frame for frame in traceback.extract_stack() if not frame.filename.endswith("benchmarks/gpu/counting.py")]
    if any(frame.name in ON_HOST for frame in stack):
        return
    asking = next((frame for frame in reversed(stack) if "/torch/" not in frame.filename), stack[-1])
    waits["/".join(asking.filename.split("/")[-3:]) + f":{asking.lineno}"] += 1


@contextmanager
def as_one_kernel(module: Any, name: str) -> Iterator[None]:
    """Count a function of a module as one kernel, which a card has for it, whatever it is made of here."""
    with _as_kernels(module, name, 1):
        yield


@contextmanager
def as_on_host(module: Any, name: str) -> Iterator[None]:
    """Do not count what a function of a module does: its tensors are on the host."""
    with _as_kernels(module, name, 0):
        yield


@contextmanager
def _as_kernels(module: Any, name: str, kernels: int) -> Iterator[None]:
    own = getattr(module, name)

    def run(*args: Any) -> Any:
        counters = [mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, StepCounter)]
        with _disable_current_modes():
            result = own(*args)
        for counter in counters:
            counter.kernels[name] += kernels
        return result

    with mock.patch.object(module, name, run):
        yield
