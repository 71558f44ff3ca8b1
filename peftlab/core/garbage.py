"""Garbage, where to look for it only costs time."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

SELDOM = 100_000
"""New objects between two looks for garbage, while what a program needs is imported: Python's own is some hundred."""
_usual: list[tuple[int, int, int]] = []


@contextlib.contextmanager
def looked_for_seldom() -> Iterator[None]:
    """Look for garbage seldom: imports of torch and what stands on it make a million objects that stay.

    In a program that has imported torch before nothing changes.
    """
    if "torch" in sys.modules:
        yield
        return
    _usual.append(gc.get_threshold())
    gc.set_threshold(SELDOM, *_usual[-1][1:])
    try:
        yield
    finally:
        gc.set_threshold(*_usual.pop())


def look_as_usual() -> None:
    """Within :func:`looked_for_seldom`: look as usual again, since tensors may lie in it."""
    # What is there by now stays, and is left out.
    if _usual and gc.get_threshold() != _usual[-1]:
        gc.freeze()
        gc.set_threshold(*_usual[-1])
