"""Whether a class or function of transformers computes what a faster one here does, by its results.

Models copy parts from one another, under names of their own. A part that is known by its formula is tried once, with
numbers in which another formula would show: the class's own code on a stand-in that has only what the formula needs.
Code that asks for more, or gives anything else, is another part, and is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


@contextlib.contextmanager
def real_tensors() -> Iterator[None]:
    """Numbers, also where a model is being worked on by shapes alone."""
    with _disable_current_modes(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


def gives_the_same(own: Callable[[], Any], expected: Callable[[], Any]) -> bool:
    """Whether two computations that make their inputs themselves have equal results, in float32 on CPU.

    Args:
        own: May raise whatever it likes: then it is not the same.
        expected: What it should give: a tensor, or several.
    """
    with real_tensors():
        try:
            found = own()
        except Exception:  # noqa: BLE001 - code of any model, on a stand-in that may not be enough for it
            return False
        wanted = expected()
        pairs = [(found, wanted)] if isinstance(wanted, Tensor) else list(zip(found, wanted, strict=True))
        return all(isinstance(one, Tensor) and _close(one, other) for one, other in pairs)


def _close(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


def agree(found: Iterable[Tensor], wanted: Iterable[Tensor], rounding: float) -> bool:
    """Whether tensors differ from others by no more than rounding: a share of the other's length."""
    pairs = zip(found, wanted, strict=True)
    return all(float((one - other).norm()) <= rounding * float(other.norm()) for one, other in pairs)


def ramp(*shape: int) -> Tensor:
    """Numbers of both signs that no two places share; no generator is asked, so that a run's stays where it is."""
    count = torch.Size(shape).numel()
    places = torch.arange(count, dtype=torch.float32)
    return torch.sin(1.7 * places + 0.3).reshape(shape) * (1 + places.reshape(shape) / count)
