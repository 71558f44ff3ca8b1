"""Garbage, where to look for it only costs time."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def first_imports() -> Iterator[None]:
    """Import torch and what stands on it without a look for garbage, and leave what they have made out of later looks.

    They make a million objects that stay. In a program that has imported torch before nothing changes.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
