"""Where a step waits for the card: the host asks for a number that the card has yet to compute, and both stand still.

On a CPU nothing waits, but the same calls are made: so it shows without a card.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from peftlab.testing.broken_contract import require

ASK = frozenset(
    (
        "item", "tolist", "numpy", "cpu", "nonzero", "argwhere", "masked_select", "unique", "equal",
        "allclose", "is_nonzero", "__bool__", "__float__", "__int__", "__index__", "__array__",
    )
)  # fmt: skip
"""What torch calls functions whose result, or its shape, hangs on the values of a tensor."""


class Waits(TorchFunctionMode):
    """Notes the places in a package at which a step would wait for a card.

    Args:
        package: The module's name, or its beginning; what torch and other libraries do by themselves is not counted.
    """

    def __init__(self, package: str) -> None:
        super().__init__()
        self._package = package
        self.places: dict[str, str] = {}
        """``file.py:12`` and the call."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if (name in ASK or (name == "__getitem__" and _picks_by_mask(args))) and (place := self._place()):
            self.places.setdefault(place, "an index by a mask" if name == "__getitem__" else f"{name}()")
        return func(*args, **(kwargs or {}))

    def require_none(self, whose: str) -> None:
        """Refuse a plugin that waits.

        Args:
            whose: What was looked at, such as ``fgm on text_classification``.

        Raises:
            BrokenContractError: Naming the lines.
        """
        __tracebackhide__ = True
        places = [f"{call} at {place}" for place, call in self.places.items()]
        require(
            not places,
            f"{whose}: each step waits for the card, by {', '.join(places[:3])}",
            hint="Compute with tensors: torch.where instead of `if`, a tensor instead of a number.",
        )

    def _place(self) -> str | None:
        """The line that has called torch, where it is of the package."""
        frame = sys._getframe(2)
        while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("torch."):
            frame = frame.f_back
        module = str(frame.f_globals.get("__name__", ""))
        if module != self._package and not module.startswith(f"{self._package}."):
            return None
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _picks_by_mask(args: tuple[Any, ...]) -> bool:
    index = args[1] if len(args) > 1 else None
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)


def package_of(plugin: object) -> str:
    """The package of a plugin's class; its module where that stands alone."""
    module = type(plugin).__module__
    return module.rpartition(".")[0] or module
