"""Load what a run left, from its files alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from peftlab.artifact.files import check_adapter, check_model
from peftlab.artifact.save import DELTA_CONFIG, DELTA_FORMAT, DELTA_WEIGHTS, delta_tensors
from peftlab.artifact.token_rows import has_token_rows
from peftlab.artifact.whole_model import load_model
from peftlab.core.added_rows import drop_rows
from peftlab.core.errors import UserError, first_line
from peftlab.core.known_warnings import without_known_warnings
from peftlab.core.method import METHODS, MethodContext
from peftlab.core.record import ADAPTER, MODEL
from peftlab.methods._experts import layers_as_named, read_config


def load_artifact(load_base: Callable[[], Any], folder: Path) -> nn.Module:
    """Load a tuned model in eval mode.

    Args:
        load_base: Loads the base model with a head of the right size; not called for a fully tuned model.
        folder: The run's.

    Raises:
        UserError: There is no artifact, or it does not fit the base.
    """
    if (folder / MODEL).is_dir():
        check_model(folder / MODEL)
        return load_model(folder / MODEL).eval()
    adapter = folder / ADAPTER
    if not adapter.is_dir():
        raise UserError("there is no adapter/ and no model/ in this folder", where=str(folder))
    check_adapter(adapter)
    load = _load_peft if (adapter / "adapter_config.json").is_file() else _load_delta
    base = load_base()
    try:
        _check_base(base, adapter)
        return load(base, adapter).eval()
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError, FileNotFoundError) as error:
        raise UserError(f"the adapter is damaged: {first_line(error)}", where=str(adapter)) from None


def _check_base(base: Any, folder: Path) -> None:
    """Many an adapter goes onto a base of another depth without a word, from peft or from the shapes."""
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own, wanted = base.config.model_type, values.get("model_type")
    if own != wanted:
        raise _misfit(folder, f"it was trained with model_type {wanted}, and this base has {own}")
    # By the base's own class: that of a type that transformers does not know is nowhere else. It reads the file itself,
    # where numbers without an end, such as Mamba's `time_step_limit`, are written in a way of transformers' own.
    saved = type(base.config).from_json_file(folder / "config.json")
    for key in ("hidden_size", "num_hidden_layers"):
        own, wanted = getattr(base.config, key, None), getattr(saved, key, None)
        if own != wanted:
            raise _misfit(folder, f"it was trained with {key} {wanted}, and this base has {own}")


def _load_peft(base: Any, folder: Path) -> nn.Module:
    if has_token_rows(folder):
        drop_rows(base)
    try:
        with without_known_warnings(), layers_as_named():
            config = read_config(folder, base)
            # Else peft reads the file onto a card, if there is one, wherever the base is.
            model: Any = peft.PeftModel.from_pretrained(base, folder, config=config, torch_device="cpu")
    # The last two are of values that peft takes for right.
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _misfit(folder, first_line(error)) from None
    if not model.active_peft_config.is_prompt_learning:  # peft only warns of what is missing
        saved = load_file(folder / DELTA_WEIGHTS)
        own = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        _check_names(own, saved, folder)
        # peft makes AdaLoRA's matrices anew in the base's type, and so rounds what it loads into them.
        for name, tensor in own.items():
            tensor.copy_(saved[name])
    return cast("nn.Module", model)


def _load_delta(base: Any, folder: Path) -> nn.Module:
    description = json.loads((folder / DELTA_CONFIG).read_text(encoding="utf-8"))
    if description["format"] != DELTA_FORMAT:
        raise UserError(f"the adapter's format is {description['format']}; this peftlab reads {DELTA_FORMAT}")
    values = description["context"]
    context = MethodContext(**{**values, "head_modules": tuple(values["head_modules"])})
    method = METHODS.get(description["method"]["type"]).model_validate(description["method"])
    with without_known_warnings():
        model: nn.Module = method.apply(base, context)
    saved = load_file(folder / DELTA_WEIGHTS)
    own = {
        name: each for name, each in delta_tensors(model).items() if name in saved or not method.may_be_missing(name)
    }
    _check_names(own, saved, folder)
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.shape != saved[name].shape:
                raise _misfit(folder, f"{name} is {tuple(saved[name].shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(saved[name])
    return model


def _check_names(own: Mapping[str, Any], saved: Mapping[str, Any], folder: Path) -> None:
    if own.keys() != saved.keys():
        raise _misfit(folder, f"it lacks or adds {', '.join(sorted(own.keys() ^ saved.keys())[:3])}")


def _misfit(folder: Path, detail: str) -> UserError:
    return UserError(f"the adapter does not fit this base model: {detail}", where=str(folder))
