"""Room for the next model, where several are needed one after the other and memory holds one."""

from __future__ import annotations

import gc

import torch
from torch import nn


def free_memory() -> None:
    """Give what nothing holds any more back, a card's memory too."""
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where no card is in use


def let_go(model: nn.Module) -> None:
    """Give the memory of a model's weights back, although the model is still held; nothing can be asked of it any more.

    All that its modules hold goes: bitsandbytes' layers have their matrices not only as parameters.
    """
    for module in list(model.modules()):
        vars(module).clear()
    free_memory()
