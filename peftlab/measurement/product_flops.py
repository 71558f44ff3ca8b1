"""FLOPs of matrix products, as they are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class ProductFlops(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its class untyped
    """Counts as PyTorch's counter does, by its formulas, and not by modules: to follow these takes as long as a step.

    Args:
        more: Formulas of operations that PyTorch's counter does not know.

    Attributes:
        total: FLOPs so far.
    """

    def __init__(self, more: Mapping[Any, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._formulas = FlopCounterMode(display=False, custom_mapping=dict(more)).flop_registry
        self._ways: dict[int, Callable[..., Any]] = {id(torch.ops.prim.device.default): _done}
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, and count it."""
        way = self._ways.get(id(func))
        if way is None:
            way = self._ways[id(func)] = self._way_of(func)
        return way(func, args, kwargs or {})

    def _way_of(self, func: Any) -> Callable[..., Any]:
        if not isinstance(func, torch._ops.OpOverload):
            return _left_to_others
        formula = self._formulas.get(func._overloadpacket)
        if formula is not None:

            def counted(func: Any, args: Any, kwargs: Any) -> Any:
                result = func(*args, **kwargs)
                self.total += int(formula(*args, **kwargs, out_val=result))
                return result

            return counted
        if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            return self._in_parts
        return _done

    def _in_parts(self, func: Any, args: Any, kwargs: Any) -> Any:
        with self:
            return func.decompose(*args, **kwargs)


def _done(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _left_to_others(*_: Any) -> Any:
    return NotImplemented
