"""Whole models, which need no peft: what full tuning and merging leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from torch import nn

from peftlab.core.errors import UserError, first_line
from peftlab.core.quiet import quiet_transformers


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
