"""Offloading: the base's matrices lie in CPU memory or on disk, and come to the device while their layer computes.

accelerate's hooks fetch a layer's matrix before its forward and drop it afterwards. What autograd keeps for the
backward pass would hold all of them nevertheless. Under gradient checkpointing it keeps none: a block is computed again
in the backward pass, where the hooks fetch its matrices once more. So a recipe that offloads must also checkpoint.

Embeddings, norms, adapters and heads are small, or train, and stay on the device.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.utils import OffloadedWeightsLoader, PrefixedDataset, offload_state_dict
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peftlab.core.errors import UnsupportedError
from peftlab.training.sharding import Sharding

Offload = Literal["cpu", "disk"]
Model = TypeVar("Model", bound=nn.Module)


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

    def place(self, model: Model) -> Model:
        """Offload or shard what can be, and move the rest to the device."""
        if self._sharding is not None:
            self._sharding.shard(model, self._device)
        if self._offload is not None:
            layers = frozen_layers(model)
            tensors = {
                f"{name}.{key}": tensor.detach()
                for name, layer in layers.items()
                for key, tensor in layer.named_parameters(recurse=False)
            }
            attach(layers, self._store(tensors), device=self._device)
        _move_virtual_tokens(model, self._device)
        return model._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(self._device))  # type: ignore[no-untyped-call, no-any-return]

    @property
    def shards(self) -> bool:
        """Whether each process holds a part of the base only."""
        return self._sharding is not None

    def _store(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if self._offload == "cpu":
            return {name: tensor.cpu() for name, tensor in tensors.items()}
        if self._files is None:
            self._files = tempfile.TemporaryDirectory(dir=self._folder, prefix=".offload-")
        offload_state_dict(self._files.name, tensors)
        stored: Mapping[str, Tensor] = OffloadedWeightsLoader(save_folder=self._files.name)
        return stored

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


def attach(layers: Mapping[str, nn.Module], weights: Mapping[str, Tensor], *, device: torch.device) -> None:
    """Let layers drop their parameters, and fetch them from a mapping whenever they compute."""
    for name, layer in layers.items():
        hook = AlignDevicesHook(execution_device=device, offload=True, weights_map=PrefixedDataset(weights, f"{name}."))
        add_hook_to_module(layer, hook)


def frozen_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters that do not train, by name; those that are offloaded are fetched one at a time."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            yield name, _fetch(model, name) if parameter.is_meta else parameter


def _fetch(model: nn.Module, name: str) -> Tensor:
    layer, _, key = name.rpartition(".")
    hook: Any = model.get_submodule(layer)._hf_hook
    tensor: Tensor = hook.weights_map[key]
    return tensor
