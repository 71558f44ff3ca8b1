"""Embeddings of added tokens in the form that peft has for them, where it has one: in LoRA's adapters.

So plain peft loads them, onto a base whose embeddings were resized to the tokenizer; the adapter's other parts are
untouched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
from safetensors.torch import load_file, save_file
from torch import Tensor

from peftlab.core.added_rows import ADDED_ROWS, AddedRows

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
INDICES = "trainable_token_indices"
PREFIX = "base_model.model."


def write_rows_for_peft(model: Any, folder: Path) -> None:
    """Rename the rows in an adapter that peft has written; without any, nothing happens.

    Args:
        model: That was saved.
        folder: Of the adapter.
    """
    if not isinstance(model.active_peft_config, peft.LoraConfig):
        return
    ids = {
        name.removeprefix(PREFIX).partition(f".{ADDED_ROWS}")[0]: module.ids.tolist()
        for name, module in model.named_modules()
        if isinstance(module, AddedRows)
    }
    if not ids:
        return
    save_file(named_for_peft(model, load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    others = [name for name in config["modules_to_save"] or [] if not name.endswith(f".{ADDED_ROWS}")]
    config |= {INDICES: ids, "modules_to_save": others or None}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def named_for_peft(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an adapter by the names that peft has for them; only those of rows change."""
    if not isinstance(model.active_peft_config, peft.LoraConfig):
        return dict(tensors)
    own, theirs = f".{ADDED_ROWS}.weight", ".token_adapter.trainable_tokens_delta"
    return {name.replace(own, theirs): tensor for name, tensor in tensors.items()}


def has_token_rows(folder: Path) -> bool:
    """Whether an adapter holds embeddings of tokens in peft's own form."""
    return bool(json.loads((folder / CONFIG).read_text(encoding="utf-8")).get(INDICES))
