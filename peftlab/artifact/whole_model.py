"""Whole models, which need no peft: what full tuning and merging leave."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from peftlab.core.errors import UserError, first_line
from peftlab.core.quiet import quiet_transformers
from peftlab.models.gguf_header import read_gguf_config

SINGLE_PRECISION = 1e-6
"""How far a number may move that a file holds in float32."""


@quiet_transformers()
def load_model(folder: Path) -> nn.Module:
    """Load a whole model by the class that its config names: one of transformers, and no code that lies beside it.

    Raises:
        UserError: It names another class, or its files do not fit it.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError) as error:
        raise UserError(f"the model's config cannot be used: {first_line(error)}", where=str(folder)) from None
    name = next(iter(config.architectures or ()), None)
    cls: Any = getattr(transformers, str(name), None)
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise UserError(f"the model is of the class {name}, and transformers has no such model", where=str(folder))
    config._attn_implementation = None  # which code computes attention, no file says
    load: Any = cls.from_pretrained
    model: nn.Module
    model, info = load(folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True)
    if any(str(key).startswith("pooler.") for key in info["missing_keys"]):
        model.pooler = None  # type: ignore[assignment]  # of a model that was tuned without a head
    return model


@quiet_transformers()
def load_gguf(file: Path) -> nn.Module:
    """Load a GGUF file through transformers, in the type that the config beside it names.

    What the file says of itself must be what the config says: other programs read the file alone.

    Raises:
        UserError: The file is damaged, or the two differ.
    """
    try:
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config: Any = transformers.AutoConfig.from_pretrained(file.parent, **local)
        if config.model_type == "mistral":  # a Llama in such a file, and to transformers' reader
            config = transformers.LlamaConfig.from_dict({**config.to_dict(), "model_type": "llama"})
        told = read_gguf_config(file)
        model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, config=config, dtype=config.dtype or torch.float32, **local
        )
    except (ValueError, OSError, KeyError, NotImplementedError) as error:
        raise UserError(f"the GGUF file cannot be read: {first_line(error)}", where=str(file)) from None
    known = {**config.to_dict(), **(getattr(config, "rope_parameters", None) or {})}
    for key, value in told.items():
        if key in known and not _is_same(value, known[key]):
            raise UserError(f"the file says {key} {value}, and its config {known[key]}", where=str(file))
    return model


def _is_same(told: object, known: object) -> bool:
    if isinstance(told, float) and isinstance(known, float | int):
        return math.isclose(told, known, rel_tol=SINGLE_PRECISION)
    return told == known
