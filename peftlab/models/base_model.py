"""Load a base model with the head of a task, and its tokenizer."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from peftlab.acceleration.accelerated import prepare
from peftlab.core.added_rows import set_rows_apart
from peftlab.core.bfloat16 import card_has_bfloat16
from peftlab.core.errors import SourceError, UnsupportedError, first_line
from peftlab.core.input_embeddings import input_embeddings
from peftlab.core.quiet import quiet_transformers
from peftlab.core.task import Head
from peftlab.models.added_tokens import add_rows, add_to_tokenizer
from peftlab.models.facts import IMAGE_TEXT_MODELS
from peftlab.models.gguf import convert_gguf
from peftlab.models.head_modules import find_head_modules, settle_bias
from peftlab.models.image_reader import load_image_reader
from peftlab.models.image_text_reader import ImageTextReader
from peftlab.models.model_config import ModelConfig
from peftlab.models.odd_files import told_by_the_checkpoint
from peftlab.models.own_head import fit_own_head
from peftlab.models.quantization import quantization_config, settle_quantized
from peftlab.models.remote_code import leave_for_code


@dataclass(frozen=True)
class BaseModel:
    """A loaded base model.

    Args:
        model: With the task's head, in eval mode; on CPU, but for quantised ones, which are where they were quantised.
        head_modules: Full names of the modules that the checkpoint does not hold.
        source: The folder or Hub id that plain transformers loads the same base from.
        own_head: What became of the head that the checkpoint brought; empty where it has none.
    """

    model: PreTrainedModel
    head_modules: tuple[str, ...]
    source: str
    own_head: str = ""


def local_source(location: Path | str) -> str:
    """What ``from_pretrained`` takes for a location; a GGUF file is converted first, or found in the cache."""
    if isinstance(location, Path):
        return str(convert_gguf(location) if location.suffix == ".gguf" else location)
    return location


@quiet_transformers()
def load_tokenizer(source: str, config: ModelConfig, *, offline: bool) -> Any:
    """Load a tokenizer, or of a model of images what reads them; of one with two towers both, as one.

    It pads and cuts on the right, whatever the checkpoint says, and has a padding token.

    A decoder without a padding token gets its end-of-text token for that: no embedding is added, and the attention
    mask keeps padding apart from a real end of text.

    Raises:
        SourceError: The tokenizer cannot be read.
        UnsupportedError: There is no token that could pad.
    """
    family, reader = load_image_reader(source, config, offline=offline)
    if family == "image":
        return reader
    tokenizer = _load_text_tokenizer(source, config, offline=offline)
    return tokenizer if reader is None else ImageTextReader(tokenizer, reader)


def _load_text_tokenizer(source: str, config: ModelConfig, *, offline: bool) -> Any:
    try:
        failed = told_by_the_checkpoint("the tokenizer cannot be loaded", config.path)
        with failed, leave_for_code(config) as trusted:
            tokenizer = AutoTokenizer.from_pretrained(
                source, revision=config.revision, local_files_only=offline, trust_remote_code=trusted
            )
    except ImportError as error:
        raise SourceError(
            f"the tokenizer cannot be loaded: {first_line(error)}",
            where=config.path,
            hint="Install what it needs, such as pip install 'peftlab[sentencepiece]'.",
        ) from None
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.split_special_tokens = False  # what is text, and what a chat template's token, peftlab decides itself
    add_to_tokenizer(tokenizer, config.add_tokens)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise UnsupportedError("the tokenizer has no token to pad with", where=config.path)
    return tokenizer


@quiet_transformers()
def load_base_model(
    source: str,
    config: ModelConfig,
    head: Head,
    *,
    dtype: torch.dtype,
    dropout: float | None,
    pad_token_id: int,
    offline: bool,
    added_token_ids: Sequence[int] = (),
    rows_apart: bool = True,
    device: torch.device | None = None,
) -> BaseModel:
    """Load the weights and put the task's head on them.

    Args:
        source: From :func:`local_source`.
        config: The recipe's section.
        head: What the task needs.
        dtype: Of the base's weights; the head is float32 in any case.
        dropout: For every dropout of the model; None leaves what the checkpoint says.
        pad_token_id: The tokenizer's.
        offline: Allow no network.
        added_token_ids: Of ``model.add_tokens``: each gets a row in the embeddings.
        rows_apart: Whether these rows become modules of their own, which train under a frozen base.
        device: Where a quantised base will be; None: on a card if there is one.

    Returns:
        The model, and which of its modules are new. torch's generators must have been seeded before: the new modules
        are drawn from them.

    Raises:
        SourceError: The weights cannot be read.
        UnsupportedError: transformers has no head of this kind for the architecture.
    """
    with _loading_errors(config, head), leave_for_code(config) as trusted:
        shared = {"revision": config.revision, "local_files_only": offline, "trust_remote_code": trusted}
        model, own_config, info = _load_weights(
            source, config, head, shared, dtype=dtype, dropout=dropout, pad_token_id=pad_token_id, device=device
        )
    if head.kind == "none":
        info = {**info, "missing_keys": without_pooler(model, info["missing_keys"])}
    if not (head.is_new or head.may_be_missing) and info["missing_keys"]:
        raise SourceError(
            f"{config.path} lacks weights that the task needs: {', '.join(sorted(info['missing_keys'])[:3])} …",
            where="model.path",
            hint="Some checkpoints have no head, such as those for sentence vectors. Choose one with its head, or a "
            "task that puts a new one on, such as text_classification.",
        )
    head_modules = find_head_modules(model, head, info)
    for name in head_modules:
        model.get_submodule(name).float()
    own_head = fit_own_head(model, own_config, head, info)
    settle_bias(model, head, head_modules)
    if config.quantization is not None:
        settle_quantized(model, config.path)
    let_every_token_train(model)
    add_rows(model, added_token_ids)
    if rows_apart:
        head_modules = (*head_modules, *set_rows_apart(model, added_token_ids, pad_token_id))
    prepare(model, config.acceleration)
    return BaseModel(model.eval(), head_modules, source, own_head)


def _load_weights(
    source: str,
    config: ModelConfig,
    head: Head,
    shared: dict[str, Any],
    *,
    dtype: torch.dtype,
    dropout: float | None,
    pad_token_id: int,
    device: torch.device | None,
) -> tuple[Any, Any, Any]:
    """The model, the checkpoint's own config, and what transformers tells of missing weights."""
    if config.attention != "auto":
        shared["attn_implementation"] = config.attention
    own_config = AutoConfig.from_pretrained(source, **shared)
    model_config = AutoConfig.from_pretrained(source, **shared, **head.config)
    prepare_config(model_config, dropout=dropout, pad_token_id=pad_token_id, attention=config.attention)
    for name, value in head.notes.items():
        setattr(model_config, name, value)
    load = functools.partial(
        getattr(transformers, head.auto_class).from_pretrained,
        source,
        config=model_config,
        dtype=dtype,
        use_safetensors=True,
        # A checkpoint that was tuned for other classes has a head of another size: a new one takes its place.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **shared,
    )
    quantization: dict[str, Any] = {}
    if config.quantization is not None:
        skeleton, missing = load(device_map="meta")
        keep = unquantized_modules(skeleton, find_head_modules(skeleton, head, missing))
        quantization = {"quantization_config": quantization_config(config, dtype=dtype, keep=keep)}
        if device is not None:  # else transformers takes the card that is this thread's current one, if there is one
            quantization["device_map"] = {"": device.type if device.index is None else device.index}
    model, info = load(**quantization)
    return model, own_config, info


@contextlib.contextmanager
def _loading_errors(config: ModelConfig, head: Head) -> Iterator[None]:
    """What transformers raises, as errors for a person."""
    try:
        yield
    except (OSError, ImportError) as error:
        raise SourceError(f"the model cannot be loaded: {first_line(error)}", where=config.path) from None
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            raise UnsupportedError(
                f"transformers has no {head.auto_class.removeprefix('AutoModel')} for this architecture",
                where=config.path,
            ) from None
        raise SourceError(f"the model cannot be loaded: {first_line(error)}", where=config.path) from None


def prepare_config(model_config: Any, *, dropout: float | None, pad_token_id: int, attention: str = "auto") -> None:
    """Set what a run decides about a model's config, in place; the checkpoint's own settings of it do not count.

    Args:
        model_config: Of transformers.
        dropout: For every dropout; None leaves what the checkpoint says.
        pad_token_id: The tokenizer's.
        attention: As the recipe says; ``auto`` leaves the choice to transformers.

    Raises:
        UnsupportedError: Dropout is wanted, and the architecture has none.
    """
    if dropout is not None and not _set_dropout(model_config, dropout) and dropout > 0:
        raise UnsupportedError(
            f"model.dropout is {dropout:g}, and models of the type {model_config.model_type} drop nothing",
            where="model.dropout",
            hint="Leave it out.",
        )
    model_config.pad_token_id = pad_token_id
    model_config.return_dict, model_config.output_hidden_states = True, False
    if attention == "auto":
        model_config._attn_implementation = None
    model_config.output_attentions = False
    if getattr(
        model_config, "output_router_logits", False
    ):  # the model would take a cache's mask for that of its input
        model_config.output_router_logits = False


def without_pooler(model: Any, missing: Iterable[str]) -> list[str]:
    """Take the pooler away from a model that has no head, in place; give the keys that a checkpoint lacks beside it.

    Nothing reads it: it would only be saved, get no gradient under full tuning, and be drawn anew from a checkpoint
    that has none.
    """
    if "add_pooling_layer" not in inspect.signature(type(model).__init__).parameters:
        return list(missing)
    model.pooler = None
    return [key for key in missing if not key.startswith("pooler.")]


def let_every_token_train(model: Any) -> None:
    """Give the padding token's embedding a gradient, like every other's.

    torch keeps back the gradient of an embedding's ``padding_idx``. Where a tokenizer has no padding token, its end
    token pads: one that is read in every text, and would stay as it was. Padding itself is masked, so its gradient is
    zero anyway.
    """
    embeddings = input_embeddings(model)
    if isinstance(embeddings, torch.nn.Embedding):
        embeddings.padding_idx = None


def unquantized_modules(model: Any, head_modules: tuple[str, ...]) -> list[str]:
    """What stays in high precision: the new modules, and the output embedding of a language model."""
    output = model.get_output_embeddings()
    embedding = [name for name, module in model.named_modules() if output is not None and module is output]
    return [*head_modules, *embedding]


def _set_dropout(model_config: Any, dropout: float) -> bool:
    """Set every rate of dropout in a config; the names differ by architecture (``attn_pdrop``, ``dropout``, …).

    A switch is no rate: ESM's ``token_dropout`` says how it scales its embeddings. Whole layers are left out no more
    often than the checkpoint says: OPT and BART, which train without that, would lose them.

    Returns:
        Whether any rate is above 0 now.
    """
    drops = False
    for tower in model_config.sub_configs if model_config.model_type in IMAGE_TEXT_MODELS else ():
        drops = _set_dropout(getattr(model_config, tower), dropout) or drops
    for key, value in model_config.to_dict().items():
        is_rate = isinstance(value, int | float) and not isinstance(value, bool)
        if is_rate and key.endswith(("layerdrop", "drop_path_rate")):
            rate = min(value, dropout)
        elif is_rate and ("dropout" in key or key.endswith("_pdrop")):
            rate = dropout
        else:
            continue
        setattr(model_config, key, rate)
        drops = drops or rate > 0
    return drops


def checkpoint_activations(model: PreTrainedModel, config: ModelConfig) -> None:
    """Compute activations twice instead of keeping them.

    To be called when the method has wrapped the model: peft would let the embeddings' output require a gradient, as
    re-entrant checkpointing needs it, and so keep the frozen layers below the lowest adapter for a backward pass that
    nothing asks for.

    Args:
        model: The base.
        config: The recipe's section. Where it offloads, a block is computed anew to its end: a layer in whose midst
            that stopped would keep its matrix.
    """
    settings = {"use_reentrant": False, "early_stop": config.offload is None}
    model.gradient_checkpointing_enable(settings)  # type: ignore[no-untyped-call]


def resolve_dtype(name: str, *, device: torch.device, base_is_frozen: bool) -> torch.dtype:
    """The type of the base's weights.

    ``auto`` is float32 on CPU, where bfloat16 is slow, and under full tuning, whose small updates bfloat16 weights
    would round away; it is bfloat16 under a frozen base on CUDA devices that compute with it.

    Args:
        name: As the recipe says.
        device: Where the model will be.
        base_is_frozen: Whether the method leaves the base as it is.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    return torch.bfloat16 if device.type == "cuda" and base_is_frozen and card_has_bfloat16() else torch.float32
