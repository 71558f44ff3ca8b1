"""Offloading: the base's matrices lie in CPU memory or on disk, and come to the device while their layer computes.

Hooks fetch a layer's matrix before its forward and drop it afterwards. What autograd keeps for the backward pass would
hold all of them nevertheless. Under gradient checkpointing it keeps none: a block is computed again in the backward
pass, where the hooks fetch its matrices once more. So a recipe that offloads must also checkpoint.

Embeddings, norms, adapters and heads are small, or train, and stay on the device.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import torch
from accelerate.utils.offload import load_offloaded_weight, offload_weight
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peftlab.core.errors import UnsupportedError
from peftlab.training.fetching import Fetcher, let_fetch
from peftlab.training.host_memory import HostMemory
from peftlab.training.sharding import Sharding

Offload = Literal["cpu", "disk"]
Model = TypeVar("Model", bound=nn.Module)
STORE = "_peftlab_store"
"""Where an offloaded layer notes in which store its parameters lie, and under which name."""


class Placement:
    """Puts models where they are computed; of an offloaded base, only what stays there.

    Args:
        offload: Where the base's matrices lie; None: on the device.
        device: Where it is computed.
        folder: Files are put into a folder in it, which is gone when the block ends.
        sharding: How models are put in parts; None: each process holds them whole.

    Raises:
        UnsupportedError: The matrices would lie where they are.
    """

    def __init__(
        self, offload: Offload | None, *, device: torch.device, folder: Path, sharding: Sharding | None = None
    ) -> None:
        if offload == "cpu" and device.type == "cpu":
            raise UnsupportedError(
                "offloading saves GPU memory, and there is no GPU here",
                where="model.offload",
                hint="Set it to disk, or to null.",
            )
        self._offload, self._device, self._folder, self._sharding = offload, device, folder, sharding
        self._files: tempfile.TemporaryDirectory[str] | None = None
        # A model that is gone must not leave its matrices behind: the run loads its base once more.
        self._in_memory: weakref.WeakSet[HostMemory] = weakref.WeakSet()

    def place(self, model: Model) -> Model:
        """Offload or shard what can be, and move the rest to the device."""
        if self._sharding is not None:
            self._sharding.shard(model, self._device)
        if self._offload is not None:
            self._offload_layers(frozen_layers(model))
        _move_virtual_tokens(model, self._device)
        return model._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(self._device))  # type: ignore[no-untyped-call, no-any-return]

    @property
    def shards(self) -> bool:
        """Whether each process holds a part of the base only."""
        return self._sharding is not None

    def told(self) -> dict[str, int | str]:
        """What a record says of it: why matrices come slowly."""
        if any(store.is_refused for store in self._in_memory):
            return {
                "offload": "some matrices are not in pinned memory, which the system has no more of: copies take longer"
            }
        return {}

    def _offload_layers(self, layers: Mapping[str, nn.Module]) -> None:
        """One after the other: each layer's own matrix is given up before the next one is put away."""
        tensors = [each for layer in layers.values() for each in layer.parameters(recurse=False)]
        store = self._new_store(sum(each.nbytes for each in tensors))
        is_ahead = self._offload == "cpu" and self._device.type == "cuda"
        fetcher = Fetcher(store.read, self._device, layers=len(layers) if is_ahead else None)
        for name, layer in layers.items():
            store.put(name, {key: tensor.detach() for key, tensor in layer.named_parameters(recurse=False)})
            let_fetch(layer, name, fetcher)
            vars(layer)[STORE] = store, name

    def _new_store(self, size: int) -> HostMemory | MappedFiles:
        if self._offload == "cpu":
            store = HostMemory(size, pins=self._device.type == "cuda")
            self._in_memory.add(store)
            return store
        if self._files is None:
            self._files = tempfile.TemporaryDirectory(dir=self._folder, prefix=".offload-")
        return MappedFiles(self._files.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._files is not None:
            self._files.cleanup()


def _move_virtual_tokens(model: nn.Module, device: torch.device) -> None:
    """The ids of a prompt's tokens, which peft copies from the host in every pass: it waits for each copy."""
    ids: dict[str, Tensor] = getattr(model, "prompt_tokens", {})
    ids.update({name: own.to(device) for name, own in ids.items()})


def frozen_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers that do not train, by name, but for a language model's head, whose matrix the loss reads."""
    heads = {id(find()) for module in model.modules() if (find := getattr(module, "get_output_embeddings", None))}
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and id(module) not in heads
        and not any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    }


def frozen_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters that do not train, by name; those that are offloaded are read one at a time."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            yield name, _read(model, name) if parameter.is_meta else parameter


def _read(model: nn.Module, name: str) -> Tensor:
    layer, _, key = name.rpartition(".")
    store, known_as = vars(model.get_submodule(layer))[STORE]
    tensor: Tensor = store.read(known_as)[key]
    return tensor


class MappedFiles:
    """Files that are mapped into memory."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._index: dict[str, dict[str, Any]] = {}
        self._names: dict[str, list[str]] = {}

    def put(self, layer: str, tensors: Mapping[str, Tensor]) -> None:
        """Put a layer's parameters away."""
        self._names[layer] = list(tensors)
        for key, tensor in tensors.items():
            offload_weight(tensor, f"{layer}.{key}", self._folder, self._index)

    def read(self, layer: str) -> dict[str, Tensor]:
        """A layer's parameters."""
        names = {key: f"{layer}.{key}" for key in self._names[layer]}
        return {
            key: load_offloaded_weight(str(Path(self._folder, f"{name}.dat")), self._index[name])
            for key, name in names.items()
        }
