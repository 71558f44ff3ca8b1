"""Warnings that one library causes in another, and that no user can do anything about."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

# peft 0.21.2 asks transformers 5.23 by the old name.
_MESSAGES = ("`is_gradient_checkpointing` is deprecated",)


@contextlib.contextmanager
def without_known_warnings() -> Iterator[None]:
    """While entered, they are not shown: programs and notebooks would print them at every run."""
    with warnings.catch_warnings():
        for message in _MESSAGES:
            warnings.filterwarnings("ignore", message=message, category=FutureWarning)
        yield
