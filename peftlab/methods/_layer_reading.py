"""What chosen layers read of training rows, for methods that begin with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peftlab.core.tensors import has_values

if TYPE_CHECKING:
    from torch import Tensor, nn


def low_rank_layers(model: nn.Module) -> dict[str, Any]:
    """The layers with an update of peft's LoRA, by name."""
    return {name: part for name, part in model.named_modules() if hasattr(part, "lora_A")}


class LayerInputs:
    """What layers read of the batches that a model reads, as long as the context lasts.

    Layers that read one tensor, such as q, k and v, are one: the first of them stands for all.

    Args:
        layers: By name.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.same_as: dict[str, str] = {}
        """The layer that stands for each one."""
        self._layers = layers
        self._read: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> LayerInputs:
        self._handles = [layer.register_forward_pre_hook(self._noting(name)) for name, layer in self._layers.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._read.clear()

    def states(self, mask: Tensor | None) -> Iterator[tuple[str, Tensor]]:
        """What was read of the last batch: names, and tokens × inputs in float32.

        Args:
            mask: The batch's attention mask; padding is left out where it has the shape of the states.
        """
        read, self._read = self._read, {}
        for name, states in read.items():
            kept = states
            if mask is not None and mask.shape == states.shape[:-1]:
                kept = states[mask.bool()] if has_values(mask) else states.clone()
            yield name, kept.reshape(-1, states.shape[-1]).float()

    def _noting(self, name: str) -> Callable[[Any, Sequence[Tensor]], None]:
        def note(_layer: Any, inputs: Sequence[Tensor]) -> None:
            states = inputs[0]
            if name not in self.same_as:
                self.same_as[name] = next((other for other, read in self._read.items() if read is states), name)
            if self.same_as[name] == name:
                self._read[name] = states

        return note


def grouped(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Names in their order, as many at once as stay below a limit of bytes together; one alone may be larger."""
    group: list[str] = []
    used = 0
    for name, size in sizes.items():
        if group and used + size > limit:
            yield group
            group, used = [], 0
        group.append(name)
        used += size
    if group:
        yield group
