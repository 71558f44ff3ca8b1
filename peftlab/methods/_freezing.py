"""For methods without peft: freeze the base, and let the head train."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from peftlab.core.method import MethodContext

if TYPE_CHECKING:
    from torch import nn


def freeze_base(model: nn.Module, context: MethodContext, keep: Callable[[str], bool] = lambda _: False) -> None:
    """Only the head's parameters, and those whose names ``keep`` picks, require a gradient afterwards.

    What trains is float32, as peft's adapters are: half precision rounds small updates away. So is the rest of a norm
    of which a part trains: its kernels take weight and bias in one type. Autocast does that for linear layers.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for name, parameter in model.named_parameters():
        in_head = any(name.startswith(f"{head}.") for head in context.head_modules)
        parameter.requires_grad_(in_head or keep(name))
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        for parameter in own if any(each.requires_grad for each in own) else ():
            if parameter.requires_grad or not isinstance(module, nn.Linear | Conv1D):
                parameter.data = parameter.data.float()
