"""A model that starts from nothing: its weights are drawn, and written down as a checkpoint like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftlab.core.errors import ConfigError, did_you_mean
from peftlab.core.model_facts import ModelFacts
from peftlab.core.task import Head
from peftlab.models.character_tokenizer import CHARACTERS
from peftlab.models.facts import family_of
from peftlab.models.model_config import ModelConfig

WHERE = "model.from_config"
NEW_VOCABULARY_SIZE = 8192
"""Tokens of a new tokenizer, at most, where model.from_config says nothing of its vocab_size."""


def facts_of_new_model(config: ModelConfig) -> ModelFacts:
    """What is known of a model that does not exist yet."""
    values = dict(config.from_config or {})
    if config.tokenizer in (None, CHARACTERS) and family_of(values) != "image":
        values.setdefault("vocab_size", NEW_VOCABULARY_SIZE)
    model_type = str(values.get("model_type", ""))
    family = family_of(values)
    return ModelFacts(f"a new {model_type}", model_type, "decoder" if family == "unknown" else family, values)


def write_new_model(config: ModelConfig, head: Head, *, tokenizer: Any, seed: int, folder: Path) -> None:
    """Draw the weights of a new model and write it into a folder, with its tokenizer.

    Args:
        config: Its ``from_config`` holds ``model_type`` and whatever that type's config knows.
        head: Of the task.
        tokenizer: Decides the size of the vocabulary.
        seed: Of the weights.
        folder: To be filled.

    Raises:
        ConfigError: transformers has no such type, or the type no such setting.
    """
    import torch
    import transformers

    values = _checked(config.from_config or {})
    is_image = family_of(values) == "image"
    known_size = None if is_image else values.pop("vocab_size", None)
    if known_size is not None and known_size < len(tokenizer):
        raise ConfigError(f"the tokenizer has {len(tokenizer)} tokens", where=f"{WHERE}.vocab_size")
    model_type = values.pop("model_type")
    of_tokens = {} if is_image else _token_settings(model_type, values, tokenizer)
    model_config = transformers.AutoConfig.for_model(model_type, **of_tokens, **values, **head.config)
    torch.manual_seed(seed)
    try:
        model = getattr(transformers, head.auto_class).from_config(model_config)
    except ValueError as error:
        raise ConfigError(f"the model cannot be built: {str(error).splitlines()[0]}", where=WHERE) from None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _token_settings(model_type: str, values: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """What a tokenizer decides of a model's config."""
    return {
        "vocab_size": len(tokenizer),
        # The row of a padding token begins at zero: not so where the end token pads.
        "pad_token_id": None if tokenizer.pad_token_id == tokenizer.eos_token_id else tokenizer.pad_token_id,
        **_start_of_decoder(model_type, values, tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _start_of_decoder(model_type: str, values: Mapping[str, Any], tokenizer: Any) -> dict[str, int]:
    """An encoder–decoder's decoder begins with the padding token, as T5's does, where the config does not say."""
    is_apart = family_of({"model_type": model_type, **values}) == "encoder_decoder"
    if not is_apart or "decoder_start_token_id" in values:
        return {}
    return {"decoder_start_token_id": tokenizer.pad_token_id}


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Transformers takes every unknown setting without a word."""
    from transformers import CONFIG_MAPPING, AutoConfig

    model_type = str(given.get("model_type", ""))
    if model_type not in CONFIG_MAPPING:
        raise ConfigError(
            f"transformers has no model type `{model_type}`",
            where=f"{WHERE}.model_type",
            hint=did_you_mean(model_type, CONFIG_MAPPING.keys()),
        )
    default = AutoConfig.for_model(model_type)
    known = {*default.to_dict(), *default.attribute_map}
    for key in given:
        if key not in known:
            raise ConfigError(
                f"{model_type} has no setting `{key}`", where=f"{WHERE}.{key}", hint=did_you_mean(key, known)
            )
    return dict(given)
