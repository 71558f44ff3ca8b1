"""A head's bias that does not train: a value that is saved and loaded with the head, and no parameter.

A loss that only compares what the head says of several inputs stays the same when one number is added to all of it. The
bias of the head's last layer gets a gradient of exactly zero then, or one that is nothing but rounding, by which an
optimizer such as Adam would still move it in every step. As a buffer it is in the model's state under its own name, so
files of runs in which it trained fit as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def fix_bias(layer: nn.Linear) -> None:
    """Let a layer's bias be as it is, in place; without one nothing happens."""
    if layer.bias is None:
        return
    bias = layer.bias.detach()
    del layer.bias
    layer.register_buffer("bias", bias)


def fixed_biases(model: nn.Module) -> dict[str, Tensor]:
    """The biases that :func:`fix_bias` has fixed, by name; of layers that train, and not of the copies beside them."""
    from torch import nn

    return {
        f"{name}.bias": module.bias
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and "bias" in dict(module.named_buffers(recurse=False))
    }
