"""A base model of shapes: the real architecture with the task's head, and no weights behind it.

Everything is on torch's meta device, so that a model of any size is built in seconds and takes no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from peftlab.acceleration.accelerated import prepare
from peftlab.core.added_rows import set_rows_apart
from peftlab.core.errors import UnsupportedError, first_line
from peftlab.core.model_facts import ModelFacts
from peftlab.core.task import Head
from peftlab.models.base_model import BaseModel, prepare_config, unquantized_modules, without_pooler
from peftlab.models.head_modules import find_head_modules, settle_bias
from peftlab.models.model_config import ModelConfig
from peftlab.models.quantization import quantization_config, settle_quantized

FEW = 0.2
"""A checkpoint that seems to lack more of the model than this share has other names for its weights."""


def build_skeleton(
    facts: ModelFacts,
    config: ModelConfig,
    head: Head,
    *,
    dtype: torch.dtype,
    dropout: float | None,
    rows_apart: bool = True,
) -> BaseModel:
    """Build a base model with a head on the meta device.

    Args:
        facts: Its config, and the names of its weights where they are known.
        config: The recipe's section.
        head: What the task needs.
        dtype: Of the base's weights; the head is float32 in any case.
        dropout: As for :func:`peftlab.models.base_model.load_base_model`.
        rows_apart: Likewise.

    Raises:
        UnsupportedError: transformers does not know the architecture, or has no such head for it.
    """
    auto_class = getattr(transformers, head.auto_class)
    settings: dict[str, Any] = {} if config.attention == "auto" else {"attn_implementation": config.attention}
    try:
        model_config = AutoConfig.for_model(**{**facts.config, **head.config})
        prepare_config(model_config, dropout=dropout, pad_token_id=0, attention=config.attention)
        with torch.device("meta"):
            model = auto_class.from_config(model_config, dtype=dtype, trust_remote_code=False, **settings)
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise UnsupportedError(
            f"a model of the type `{facts.model_type}` cannot be built from its config: {first_line(error)}",
            where="model.path",
            hint=f"transformers {transformers.__version__} must know the type, and the config must hold its sizes.",
        ) from None
    if head.kind == "none":
        without_pooler(model, [])
    info = {"missing_keys": _missing(model, facts.weights, head), "mismatched_keys": []}
    head_modules = find_head_modules(model, head, info)
    if config.quantization is not None:
        _quantize(model, config, dtype, unquantized_modules(model, head_modules))
    for name in head_modules:
        model.get_submodule(name).float()
    settle_bias(model, head, head_modules)
    new = [int(model.get_input_embeddings().weight.shape[0]) + at for at in range(len(config.add_tokens))]
    if new:
        model.resize_token_embeddings(max(new) + 1, mean_resizing=False)
    if rows_apart:
        head_modules = (*head_modules, *set_rows_apart(model, new))
    prepare(model, config.acceleration)
    return BaseModel(model.eval(), head_modules, facts.path)


def _missing(model: Any, weights: Mapping[str, tuple[int, ...]] | None, head: Head) -> list[str]:
    """The parameters that a checkpoint lacks inside the base, such as BERT's pooler, or in a head that it may lack."""
    if not weights or not (head.is_new or head.may_be_missing):
        return []
    prefix = f"{model.base_model_prefix}."
    names = [name for name, _ in model.named_parameters() if not head.is_new or name.startswith(prefix)]
    missing = [name for name in names if name not in weights and name.removeprefix(prefix) not in weights]
    return missing if len(missing) < FEW * len(names) else []


def _quantize(model: Any, config: ModelConfig, dtype: torch.dtype, keep: list[str]) -> None:
    """Put quantised layers in the place of linear ones, as transformers does before it loads weights."""
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    settings = quantization_config(config, dtype=dtype, keep=keep)
    replace_with_bnb_linear(model, modules_to_not_convert=settings.llm_int8_skip_modules, quantization_config=settings)
    settle_quantized(model, config.path)
    # peft asks the model which kind of layer it meets.
    model.is_loaded_in_8bit = config.quantization == "int8"
    model.is_loaded_in_4bit = config.quantization != "int8"
