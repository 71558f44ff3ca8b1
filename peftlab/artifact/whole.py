"""Whole models, which need no peft: what full tuning and merging leave."""

from __future__ import annotations

from pathlib import Path

import transformers
from torch import nn

from peftlab.core.quiet import quiet_transformers


@quiet_transformers()
def load_model(folder: Path) -> nn.Module:
    """Load a whole model by the class that its config names."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    (name,) = config.architectures
    model: nn.Module
    model, info = getattr(transformers, name).from_pretrained(
        folder, config=config, local_files_only=True, output_loading_info=True
    )
    if any(str(key).startswith("pooler.") for key in info["missing_keys"]):
        model.pooler = None  # type: ignore[assignment]  # of a model that was tuned without a head
    return model
