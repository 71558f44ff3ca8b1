"""A transformers model that a program gives: checked, compared with a checkpoint, written as one; never changed."""

from __future__ import annotations

import copy
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from peftlab.core.errors import ConfigError, UnsupportedError, first_line
from peftlab.core.generators import kept_generators
from peftlab.core.quiet import quiet_transformers
from peftlab.models.own_checkpoint import write_checkpoint

_NO_NAME = re.compile(r"LABEL_\d+")


def check_given_model(model: Any, tokenizer: Any) -> None:
    """Refuse what no run can start from.

    Raises:
        ConfigError: It is no transformers model, or the tokenizer is none.
        UnsupportedError: It has an adapter, is quantised, or has weights that are not in memory.
    """
    if not _is_of_peft(model) and not isinstance(model, PreTrainedModel):
        raise ConfigError(
            f"a transformers model is needed, not {reprlib.repr(type(model).__name__)}",
            where="model",
            hint="peftlab.wrap puts a method on any torch model; the training loop is yours then.",
        )
    if any(map(_is_of_peft, model.modules())):
        raise UnsupportedError(
            "it has an adapter already", where="model", hint="Merge it first: model = model.merge_and_unload()."
        )
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        raise UnsupportedError(
            "it is quantised already: its own weights are rounded, and a checkpoint of them cannot be made",
            where="model",
            hint="Name the checkpoint in full precision as model.path; peftlab quantises it by model.quantization.",
        )
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        raise UnsupportedError(
            "some of its weights are not in memory (they are on the device `meta`)",
            where="model",
            hint="Load it without device_map, or name its checkpoint as model.path.",
        )
    if tokenizer is not None and not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ConfigError(
            f"a tokenizer of transformers is needed, not {reprlib.repr(type(tokenizer).__name__)}", where="tokenizer"
        )


def why_another(model: PreTrainedModel, tokenizer: Any, source: str, *, revision: str | None = None) -> str:
    """Why a model is not what a checkpoint holds; empty where it is.

    A head that the checkpoint lacks does not count where its classes have no names: nobody could say what they mean,
    and a run starts a new one.

    Args:
        model: To compare; its weights' type is what both are compared in.
        tokenizer: To compare; None: it is the checkpoint's.
        source: What ``from_pretrained`` takes; nothing is downloaded.
        revision: Of a Hub id.
    """
    shared: dict[str, Any] = {"revision": revision, "local_files_only": True}
    load: Any = type(model).from_pretrained
    try:
        with quiet_transformers(), kept_generators():
            held, info = load(source, dtype=model.dtype, output_loading_info=True, **shared)
            own = None if tokenizer is None else type(tokenizer).from_pretrained(source, **shared)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        return f"{source} cannot be compared with it: {first_line(error)}"
    prefix, missing = f"{model.base_model_prefix}.", set(info["missing_keys"])
    nameless = all(_NO_NAME.fullmatch(str(name)) for name in (getattr(model.config, "id2label", None) or {}).values())
    other = held.state_dict()
    for name, tensor in model.state_dict().items():
        if name in missing and nameless and not name.startswith(prefix):
            continue
        found = other.get(name)
        if name in missing or found is None or found.shape != tensor.shape:
            return f"its `{name}` is not in {source}"
        if not torch.equal(found, tensor.detach().to("cpu", found.dtype)):
            return f"its `{name}` is another than that of {source}"
    if own is not None and _text_of(own) != _text_of(tokenizer):
        return f"its tokenizer is another than that of {source}"
    return ""


def write_given_model(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Write a model and its tokenizer as a checkpoint: safetensors, in the type that its weights have."""
    with _config_as_it_was(model), quiet_transformers():
        write_checkpoint(model, folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def _config_as_it_was(model: PreTrainedModel) -> Iterator[None]:
    """Transformers notes the architecture and the weights' type in a config that it saves."""
    config = vars(model.config)
    before = copy.deepcopy(config)
    try:
        yield
    finally:
        config.clear()
        config.update(before)


def _text_of(tokenizer: Any) -> tuple[Any, ...]:
    """What a tokenizer makes of texts, as far as it can be told from outside."""
    return tokenizer.get_vocab(), tokenizer.special_tokens_map, getattr(tokenizer, "chat_template", None)


def _is_of_peft(module: Any) -> bool:
    return type(module).__module__.partition(".")[0] == "peft"
