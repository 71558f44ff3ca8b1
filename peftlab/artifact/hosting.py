"""Several tuned models of one base in memory: one copy of every equal tensor, and LoRA adapters side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from peftlab.artifact.save import ADAPTER, DELTA_WEIGHTS
from peftlab.errors import UserError


def rides_with_others(model: Any) -> bool:
    """Whether this adapter and others of its kind can be in one batch.

    They can for LoRA without DoRA, where everything that was trained whole, such as the head, is a plain linear layer.
    """
    if not isinstance(model, peft.PeftModel) or not isinstance(model.active_peft_config, peft.LoraConfig):
        return False
    whole = [module for module in model.modules() if isinstance(module, peft.utils.ModulesToSaveWrapper)]
    adalora = isinstance(model.active_peft_config, peft.AdaLoraConfig)
    plain = all(isinstance(module.original_module, nn.Linear) for module in whole)
    return plain and not adalora and not model.active_peft_config.use_dora


def add_adapter(model: Any, folder: Path, name: str) -> None:
    """Put a run's LoRA adapter beside those that a model has.

    Args:
        model: A ``PeftModel`` in eval mode.
        folder: The run's.
        name: What the model calls the adapter.

    Raises:
        UserError: The adapter is damaged, or does not fit; the model is then as it was.
    """
    adapter = folder / ADAPTER
    try:
        saved = load_file(adapter / DELTA_WEIGHTS).keys()
        model.load_adapter(adapter, adapter_name=name)
        own = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False).keys()
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError, json.JSONDecodeError) as error:
        if name in model.peft_config:
            model.delete_adapter(name)
        raise UserError(f"the adapter cannot be loaded: {str(error).splitlines()[0]}", where=str(adapter)) from None
    if own != saved:
        model.delete_adapter(name)
        raise UserError(f"the adapter lacks or adds {', '.join(sorted(own ^ saved)[:3])}", where=str(adapter))
    model.eval()


def use_adapter(model: Any, name: str) -> None:
    """Let every example of the batches to come have one adapter."""
    model.set_adapter(name, inference_mode=True)


def remove_adapter(model: Any, name: str) -> None:
    """Take an adapter away from a model that has others."""
    model.delete_adapter(name)


class TensorPool:
    """Keeps one copy of tensors of equal content, whatever model they are in.

    A frozen base is the same in every model that was tuned from it, bit by bit, under whatever names the methods'
    wrappers give its weights. Models in a pool must not be changed in place any more.
    """

    def __init__(self) -> None:
        self._tensors: dict[tuple[str, tuple[int, ...], torch.dtype], torch.Tensor] = {}

    def share(self, model: nn.Module) -> int:
        """Let a model use the pool's copies.

        Returns:
            How many bytes of its tensors the pool had already.
        """
        saved = 0
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.device.type != "cpu" or not tensor.numel():
                continue
            content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            key = (hashlib.sha256(content.data).hexdigest(), tuple(tensor.shape), tensor.dtype)
            known = self._tensors.setdefault(key, tensor.data)
            if known.data_ptr() != tensor.data_ptr():
                saved += tensor.numel() * tensor.element_size()
                tensor.data = known
        return saved

    def keep_only(self, models: Iterable[nn.Module]) -> None:
        """Forget the tensors that none of these models uses."""
        live = {tensor.data_ptr() for model in models for tensor in [*model.parameters(), *model.buffers()]}
        self._tensors = {key: tensor for key, tensor in self._tensors.items() if tensor.data_ptr() in live}
