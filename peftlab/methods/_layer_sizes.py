"""The sizes of the layers that a method is put on: those that a checkpoint tells without its weights, and a model's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from peftlab.core.model_facts import ModelFacts
from peftlab.methods._targets import ALL_LINEAR, MAMBA, TRANSPOSED, WITHOUT_GRADIENT, checked_targets

if TYPE_CHECKING:
    from torch import nn


class LayerSize(NamedTuple):
    """A linear layer, and how many numbers go in and come out."""

    name: str
    inputs: int
    outputs: int


def sizes_at_hand(facts: ModelFacts, targets: str | Sequence[str]) -> Iterator[LayerSize]:
    """Of those layers that surely get the method: numbered blocks hold nothing that the model lacks, as old heads are.

    Nothing of packed matrices and of mixtures of experts, whose tensors are put together when they are loaded.
    """
    is_packed = "quantization_config" in facts.config
    if is_packed or facts.model_type in MAMBA or any("expert" in name for name in facts.weights or ()):
        return
    for name in checked_targets(facts, targets):
        learns_nothing = facts.model_type in WITHOUT_GRADIENT.get(name.rpartition(".")[2], ())
        if any(part.isdigit() for part in name.split(".")) and not (targets == ALL_LINEAR and learns_nothing):
            shape = (facts.weights or {})[f"{name}.weight"]
            yield LayerSize(name, *(shape if facts.model_type in TRANSPOSED else reversed(shape)))


def sizes_of(model: nn.Module, names: Sequence[str]) -> Iterator[LayerSize]:
    """Of a model's own layers; of quantised ones those that they stand for."""
    for name in names:
        layer: Any = model.get_submodule(name)
        if hasattr(layer, "in_features"):
            yield LayerSize(name, layer.in_features, layer.out_features)
        else:  # transformers' Conv1D
            yield LayerSize(name, layer.nx, layer.nf)
