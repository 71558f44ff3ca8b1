"""What a model holds beside its parameters and buffers: the state of quantised layers.

bitsandbytes hangs the scales of a 4-bit matrix on the parameter as an attribute, and those of an 8-bit one on the
layer. torch's own walks over a model see neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

LIBRARY = "bitsandbytes"


def quantization_state(model: nn.Module) -> dict[str, Tensor]:
    """Scales, code books and offsets of quantised layers, by names such as ``<layer>.absmax`` and ``<layer>.SCB``.

    An 8-bit layer's scales move from its parameter to its own state at the first forward; the name stays the same.
    """
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if not type(module).__module__.startswith(LIBRARY):
            continue
        holders = [*vars(module).items()]
        for parameter in module.parameters(recurse=False):
            holders += vars(parameter).items()
        for attribute, value in holders:
            prefix = name if _is_state(value) else f"{name}.{attribute}"
            found.update(_tensors(value, prefix))
    return found


def model_tensors(model: nn.Module) -> list[Tensor]:
    """Every tensor that a model holds: parameters, buffers, and the state of quantised layers."""
    return [*model.parameters(), *model.buffers(), *quantization_state(model).values()]


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that can be looked at: those of an estimate are shapes alone."""
    from torch._subclasses.fake_tensor import FakeTensor

    return not isinstance(tensor, FakeTensor)


def is_part(tensor: Tensor) -> bool:
    """Whether this process holds a part of the tensor only: other processes hold the rest."""
    return hasattr(tensor, "_local_tensor")


def held_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor._local_tensor if is_part(tensor) else tensor  # type: ignore[attr-defined]


def count_weights(parameter: Tensor) -> int:
    """The weights that a parameter stands for: two in each byte of a 4-bit matrix."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def output_layer(model: nn.Module, outputs: int) -> nn.Linear | None:
    """The last linear layer that gives so many numbers: that of a classifier's or a regressor's head."""
    from torch import nn

    layers = [module for module in model.modules() if type(module) is nn.Linear and module.out_features == outputs]
    return layers[-1] if layers else None


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    from torch import Tensor

    # An 8-bit layer keeps its matrix as `CB` too; that is the parameter.
    if isinstance(value, Tensor) and not name.endswith(".CB"):
        yield name, value
    elif _is_state(value):
        for key, item in vars(value).items():
            yield from _tensors(item, f"{name}.{key}")


def _is_state(value: Any) -> bool:
    """Whether a value is one of the library's records; a layer, which a parameter refers back to, is none."""
    return type(value).__module__.startswith(LIBRARY) and hasattr(value, "__dict__") and not hasattr(value, "forward")
