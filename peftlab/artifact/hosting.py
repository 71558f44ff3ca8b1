"""Several tuned models of one base in memory: one copy of every equal tensor, and LoRA adapters side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from peftlab.artifact.save import DELTA_WEIGHTS
from peftlab.core.errors import UserError, first_line
from peftlab.core.record import ADAPTER
from peftlab.methods._experts import layers_as_named, read_config
from peftlab.training.fingerprints import fingerprint

STATELESS_PACKAGES = frozenset({"torch", "transformers", "peft", "peftlab"})
"""Packages whose layers, in eval mode, keep nothing of a batch, but for the cases that ``may_compute_at_once`` knows.

bitsandbytes is none of them: its layers settle their state in the first forward, and 8-bit ones write to it in every
one. Of layers that came with a checkpoint or a plugin, nothing is known.
"""

STATEFUL_MODELS = frozenset({"big_bird", "funnel", "recurrent_gemma", "reformer", "rwkv", "xglm"})
"""Model types of transformers whose forward writes to the model: what the length asks for, or states of the batch.

Found by searching transformers 5.23 for what the forwards of its language models assign.
"""


def can_share_batches(model: Any) -> bool:
    """Whether this adapter and others of its kind can be in one batch.

    They can for LoRA of layers, without DoRA, where everything that was trained whole, such as the head, is a plain
    linear layer.
    """
    if not isinstance(model, peft.PeftModel) or not isinstance(model.active_peft_config, peft.LoraConfig):
        return False
    whole = [module for module in model.modules() if isinstance(module, peft.utils.ModulesToSaveWrapper)]
    if getattr(model.active_peft_config, "trainable_token_indices", None):  # embeddings of its own
        return False
    adalora = isinstance(model.active_peft_config, peft.AdaLoraConfig)
    plain = all(isinstance(module.original_module, nn.Linear) for module in whole)
    config = model.active_peft_config
    return plain and not adalora and not config.use_dora and not config.target_parameters


def may_compute_at_once(model: nn.Module) -> bool:
    """Whether several threads may compute batches by this model at once, because its forward leaves it as it is.

    Args:
        model: In eval mode.
    """
    return not any(_keeps_state(module) for module in model.modules())


def _keeps_state(module: Any) -> bool:
    if type(module).__module__.partition(".")[0] not in STATELESS_PACKAGES:
        return True
    rope_types = getattr(module, "rope_type", None)  # a name, or one for each type of layer
    for rope_type in rope_types.values() if isinstance(rope_types, dict) else [rope_types]:
        # Each batch puts the frequencies for its own length into the buffers.
        if rope_type is not None and ("dynamic" in rope_type or rope_type == "longrope"):
            return True
    config = getattr(module, "config", None)
    # Where `is_causal` is given, transformers writes it to the config for the time of a forward, and deletes it again.
    is_causal = getattr(config, "is_causal", None)
    return is_causal is not None or getattr(config, "model_type", None) in STATEFUL_MODELS


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
        tensors = load_file(adapter / DELTA_WEIGHTS)
        saved = tensors.keys()
        with layers_as_named():
            model.add_adapter(name, read_config(adapter, model.get_base_model()))
            _fit_heads(model, name, tensors)
            model.load_adapter(adapter, adapter_name=name, torch_device="cpu")  # as in `load_artifact`
        own = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False).keys()
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError, json.JSONDecodeError) as error:
        if name in model.peft_config:
            model.delete_adapter(name)
        raise UserError(f"the adapter cannot be loaded: {first_line(error)}", where=str(adapter)) from None
    if own != saved:
        model.delete_adapter(name)
        raise UserError(f"the adapter lacks or adds {', '.join(sorted(own ^ saved)[:3])}", where=str(adapter))
    model.eval()


def _fit_heads(model: Any, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an adapter a head with as many outputs as it was saved with: it may have other classes than the first."""
    for place, module in model.named_modules():
        weight = tensors.get(f"{place}.weight")
        if weight is None or not isinstance(module, peft.utils.ModulesToSaveWrapper):
            continue
        head = module.modules_to_save[name]
        if weight.ndim == 2 and weight.shape[1] == head.in_features and len(weight) != head.out_features:
            own, has_bias = head.weight, head.bias is not None
            module.modules_to_save[name] = nn.Linear(
                head.in_features, len(weight), has_bias, device=own.device, dtype=own.dtype
            ).requires_grad_(False)


def use_adapter(model: Any, name: str) -> None:
    """Let every example of the batches to come have one adapter."""
    model.set_adapter(name, inference_mode=True)


def remove_adapter(model: Any, name: str) -> None:
    """Take an adapter away from a model that has others."""
    model.delete_adapter(name)


class TensorPool:
    """Keeps one copy of tensors of equal content, whatever model they are in.

    A frozen base is the same in every model that was tuned from it, bit by bit, under whatever names the methods'
    wrappers give its weights. Models in a pool must not be changed in place any more; buffers that a forward may
    change, such as frequencies for the text's length, stay the model's own.
    """

    def __init__(self) -> None:
        self._tensors: dict[tuple[str, torch.device], torch.Tensor] = {}

    def share(self, model: nn.Module) -> int:
        """Let a model use the pool's copies.

        Returns:
            How many bytes of its tensors the pool had already.
        """
        saved = 0
        buffers = model.buffers() if may_compute_at_once(model) else []
        for tensor in [*model.parameters(), *buffers]:
            if tensor.is_meta or not tensor.numel():
                continue
            known = self._tensors.setdefault((fingerprint(tensor), tensor.device), tensor.data)
            if known.data_ptr() != tensor.data_ptr() and torch.equal(_octets(known), _octets(tensor)):
                saved += tensor.numel() * tensor.element_size()
                tensor.data = known
        return saved

    def keep_only(self, models: Iterable[nn.Module]) -> None:
        """Forget the tensors that none of these models uses."""
        live = {tensor.data_ptr() for model in models for tensor in [*model.parameters(), *model.buffers()]}
        self._tensors = {key: tensor for key, tensor in self._tensors.items() if tensor.data_ptr() in live}


def _octets(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
