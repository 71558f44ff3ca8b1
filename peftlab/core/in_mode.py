"""A model in eval mode, or in training mode, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool = False) -> Iterator[None]:
    """Put a model into eval mode, or training mode; when the context ends, however it does, it is as it was."""
    was_training = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(was_training)
