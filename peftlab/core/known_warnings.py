"""Warnings that one library causes in another, and that no user can do anything about."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

_MESSAGES = (
    ("`is_gradient_checkpointing` is deprecated", FutureWarning),  # peft 0.21.2 asks transformers 5.23 by the old name
    ("The following rank_pattern keys did not match", RuntimeWarning),  # peft 0.21.2 takes AdaLoRA's for LoRA's
)


@contextlib.contextmanager
def without_known_warnings() -> Iterator[None]:
    """While entered, they are not shown: programs and notebooks would print them at every run."""
    with warnings.catch_warnings():
        for message, category in _MESSAGES:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield
