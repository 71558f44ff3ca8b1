"""For methods without peft: freeze the base, and let the head train."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from peftlab.interfaces import MethodContext

if TYPE_CHECKING:
    from torch import nn


def freeze_base(model: nn.Module, context: MethodContext, keep: Callable[[str], bool] = lambda _: False) -> None:
    """Only the head's parameters, and those whose names ``keep`` picks, require a gradient afterwards."""
    for name, parameter in model.named_parameters():
        in_head = any(name.startswith(f"{head}.") for head in context.head_modules)
        parameter.requires_grad_(in_head or keep(name))
