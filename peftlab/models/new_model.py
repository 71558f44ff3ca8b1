"""A model that starts from nothing: its weights are drawn, and written down as a checkpoint like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftlab.core.errors import ConfigError, did_you_mean, first_line
from peftlab.core.model_facts import ModelFacts
from peftlab.core.task import Head
from peftlab.models.character_tokenizer import CHARACTERS
from peftlab.models.facts import family_of
from peftlab.models.model_config import ModelConfig
from peftlab.models.own_checkpoint import write_checkpoint

WHERE = "model.from_config"
PARTS = ("text_config", "vision_config")
"""Where the settings of two towers stand."""
ENDED_BY_TOKEN = frozenset({"clip", "metaclip_2"})
"""Types of two towers that take a text's vector from its end token."""
NEW_VOCABULARY_SIZE = 8192
"""Tokens of a new tokenizer, at most, where model.from_config says nothing of its vocab_size."""


def facts_of_new_model(config: ModelConfig) -> ModelFacts:
    """What is known of a model that does not exist yet."""
    values = dict(config.from_config or {})
    model_type = str(values.get("model_type", ""))
    family = family_of(values)
    if family == "image_text":
        for part in PARTS:
            values[part] = dict(_part(values, part))
    if config.tokenizer in (None, CHARACTERS) and family != "image":
        (values["text_config"] if family == "image_text" else values).setdefault("vocab_size", NEW_VOCABULARY_SIZE)
    if family == "unknown" and "vision_config" not in values:
        family = "decoder"
    return ModelFacts(f"a new {model_type}", model_type, family, values)


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
    family, model_type = family_of(values), values.pop("model_type")
    if family == "image_text":
        values["text_config"] = _text_settings(model_type, values["text_config"], tokenizer)
    elif family != "image":
        values |= _token_settings(model_type, values, tokenizer, WHERE)
    model_config = transformers.AutoConfig.for_model(model_type, **values, **head.config)
    torch.manual_seed(seed)
    try:
        model = getattr(transformers, head.auto_class).from_config(model_config, trust_remote_code=False)
    except ValueError as error:
        raise ConfigError(f"the model cannot be built: {first_line(error)}", where=WHERE) from None
    write_checkpoint(model, folder)
    tokenizer.save_pretrained(folder)


def _token_settings(model_type: str, values: Mapping[str, Any], tokenizer: Any, where: str) -> dict[str, Any]:
    """What a tokenizer decides of a model's config.

    Raises:
        ConfigError: The config has fewer tokens.
    """
    known_size = values.get("vocab_size")
    if known_size is not None and known_size < len(tokenizer):
        raise ConfigError(f"the tokenizer has {len(tokenizer)} tokens", where=f"{where}.vocab_size")
    return {
        "vocab_size": len(tokenizer),
        # The row of a padding token begins at zero: not so where the end token pads.
        "pad_token_id": None if tokenizer.pad_token_id == tokenizer.eos_token_id else tokenizer.pad_token_id,
        **_start_of_decoder(model_type, values, tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _text_settings(model_type: str, values: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The config of a text tower, which takes a text's vector from its end token.

    Raises:
        ConfigError: The tokenizer ends no text with one that the tower would find.
    """
    settings = {**values, **_token_settings(model_type, values, tokenizer, f"{WHERE}.text_config")}
    of_bert = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    settings |= {key: value for key, value in of_bert.items() if settings[key] is None}
    end = settings["eos_token_id"]
    # With 2 transformers' towers look for the highest token instead, for the sake of old checkpoints.
    if model_type in ENDED_BY_TOKEN and (tokenizer("a")["input_ids"][-1] != end or end == 2):
        raise ConfigError(
            f"{model_type} takes a text's vector from its end token, and this tokenizer "
            + ("has the one of old checkpoints, 2" if end == 2 else "puts none behind a text"),
            where="model.tokenizer",
            hint="Leave it out, and one is made of the training texts; or name one of BERT's or CLIP's kind.",
        )
    return settings


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The config of one of two towers.

    Raises:
        ConfigError: It is not there.
    """
    part = values.get(name)
    if not isinstance(part, Mapping):
        raise ConfigError(
            f"a model of the type {values['model_type']} has two towers, and the settings of one are missing",
            where=f"{WHERE}.{name}",
            hint="Write text_config: {…} and vision_config: {…}.",
        )
    return part


def _start_of_decoder(model_type: str, values: Mapping[str, Any], tokenizer: Any) -> dict[str, int]:
    """An encoder–decoder's decoder begins with the padding token, as T5's does, where the config does not say."""
    is_apart = family_of({"model_type": model_type, **values}) == "encoder_decoder"
    if not is_apart or "decoder_start_token_id" in values:
        return {}
    return {"decoder_start_token_id": tokenizer.pad_token_id}


def _checked(given: Mapping[str, Any], where: str = WHERE) -> dict[str, Any]:
    """Transformers takes every unknown setting without a word; those of two towers too."""
    from transformers import CONFIG_MAPPING, AutoConfig

    model_type = str(given.get("model_type", ""))
    if model_type not in CONFIG_MAPPING:
        raise ConfigError(
            f"transformers has no model type `{model_type}`",
            where=f"{where}.model_type",
            hint=did_you_mean(model_type, CONFIG_MAPPING.keys()),
        )
    default = AutoConfig.for_model(model_type)
    defaults = default.to_dict()
    known = {*defaults, *default.attribute_map}
    for key in given:
        if key not in known:
            raise ConfigError(
                f"{model_type} has no setting `{key}`", where=f"{where}.{key}", hint=did_you_mean(key, known)
            )
    if family_of(given) == "image_text":
        for part in PARTS:
            _checked({"model_type": defaults[part]["model_type"], **_part(given, part)}, f"{where}.{part}")
    return dict(given)
