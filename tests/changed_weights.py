"""Runs whose weights a test changes on purpose: a run refuses weights that are not those that it left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from peftlab.core.record import read_record, write_record

Tensors = dict[str, Tensor]


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Change a run's weights, and take what they were out of its record."""
    (file,) = folder.glob("*/*model.safetensors")
    save_file(change(load_file(file)), file, {"format": "pt"})
    write_record(read_record(folder).model_copy(update={"weights_fingerprint": None}), folder)


def endless(weights: Tensors) -> Tensors:
    """Weights with which nothing that the model computes is a number."""
    return {name: tensor * float("inf") for name, tensor in weights.items()}
