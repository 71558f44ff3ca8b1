"""Batches without what they are padded with, and packed rows, whose texts attention keeps apart by their borders.

Encoders of BERT's kin: between embeddings and head, the tokens of all texts stand behind one another in one row, 1 ×
tokens × hidden, and what texts are padded with is not computed. Decoders: the same, from the embeddings on. Attention
is told the borders by the names that transformers has for them, and is :func:`~peftlab.acceleration.varlen.attend`.
What comes out has the batch's shape again; where texts are padded it is 0.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from peftlab.acceleration.device import computed_in, device_type_of
from peftlab.acceleration.texts import TEXTS, Texts
from peftlab.acceleration.varlen import Borders, attend, why_not

PART = "varlen_attention"
"""What the record calls it: layers, or why it was not taken."""
ENCODERS = {
    "albert": "encoder", "bert": "encoder", "camembert": "encoder", "distilbert": "transformer", "electra": "encoder",
    "roberta": "encoder", "xlm-roberta": "encoder",
}  # fmt: skip
"""Types of models whose tokens meet in attention only, and the part between embeddings and head."""
DECODERS = frozenset({"gemma", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})
"""The same that read from left to right, and take positions from who calls."""
DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
TAKES_TEXTS = "_peftlab_takes_texts"
"""An attribute of a transformers model, as long as it does."""


class _Known(threading.local):
    """Of the forward pass that this thread is in."""

    texts: Texts | None = None


_known = _Known()


def texts_in_flight() -> Texts | None:
    """The texts of the forward pass that this thread is in, where it computes them by their borders."""
    return _known.texts


@contextlib.contextmanager
def without_padding(model: nn.Module, parts: dict[str, int | str]) -> Iterator[None]:
    """Let a known transformers model compute padded and packed batches by their texts, as long as the context lasts.

    Args:
        model: Whatever wraps it.
        parts: Is told, at the first such batch, how many layers do so, or why none.
    """
    from transformers import PreTrainedModel
    from transformers.modeling_utils import AttentionInterface

    inner: Any = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    rows = None if inner is None or hasattr(inner, TAKES_TEXTS) else _part_of(inner)
    if rows is None:
        yield
        return
    run = _Unpadded(inner, parts)
    gather = run.gather_embeddings if inner.config.model_type in DECODERS else run.gather
    handles = [
        inner.register_forward_pre_hook(run.begin, with_kwargs=True),
        inner.register_forward_hook(run.end, always_call=True),
        rows.register_forward_pre_hook(gather, with_kwargs=True),
        rows.register_forward_hook(run.scatter),
    ]
    own = AttentionInterface._global_mapping["sdpa"]
    setattr(inner, TAKES_TEXTS, run)
    try:
        with mock.patch.dict(AttentionInterface._global_mapping, {"sdpa": _within_borders(own)}):
            yield
    finally:
        delattr(inner, TAKES_TEXTS)
        for handle in handles:
            handle.remove()


def _part_of(inner: Any) -> nn.Module | None:
    """The part whose tokens meet in attention only."""
    config = inner.config
    if config._attn_implementation != "sdpa" or getattr(config, "is_encoder_decoder", False):
        return None
    if config.model_type in ENCODERS and not getattr(config, "is_decoder", False):
        return getattr(inner.base_model, ENCODERS[config.model_type], None)
    is_decoder = config.model_type in DECODERS and getattr(config, "is_causal", None) is not False
    return inner.base_model if is_decoder and not getattr(config, "use_bidirectional_attention", None) else None


def takes_texts(inner: Any, texts: Texts | None) -> bool:
    """Whether a transformers model computes these texts by their borders, in the precision of this place."""
    run = getattr(inner, TAKES_TEXTS, None)
    return run is not None and texts is not None and run.fits()


class _Unpadded:
    """A model that computes batches by their texts.

    Args:
        inner: The transformers model.
        parts: Of the record.
    """

    def __init__(self, inner: Any, parts: dict[str, int | str]) -> None:
        self._inner, self._parts = inner, parts

    def __deepcopy__(self, _memo: Any) -> None:
        """Of a model's copy, which has the hooks but does not know its own; it computes as it always did."""

    def fits(self) -> bool:
        """Whether it can be done now; the record is told."""
        config = self._inner.config
        reason = None
        if self._inner.training and any(getattr(config, name, 0) for name in DROPOUT):
            reason = "attention has dropout, which the kernel has not"
        if reason is None:
            weight = self._inner.get_input_embeddings().weight
            if device_type_of(weight) != "cuda":
                return False
            kind = computed_in(weight)
            heads = config.num_attention_heads
            size = getattr(config, "head_dim", None) or config.hidden_size // heads
            groups = heads // (getattr(config, "num_key_value_heads", None) or heads)
            reason = why_not(weight.device, kind, size, groups)
        self._parts[PART] = config.num_hidden_layers if reason is None else f"not taken: {reason}"
        return reason is None

    def begin(self, model: Any, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before the whole model: take the texts, and leave out the mask."""
        mask = keywords.get("attention_mask")
        texts = keywords.pop(TEXTS, None) or getattr(mask, TEXTS, None)
        given = keywords.get("input_ids", keywords.get("inputs_embeds"))
        is_plain = (
            keywords.get("past_key_values") is None
            and getattr(given, "shape", (None,))[:2] == getattr(texts, "shape", 0)
            and not any(keywords.get(name) for name in ("output_attentions", "output_hidden_states"))
            and model.config.return_dict
        )
        if getattr(model, TAKES_TEXTS, None) is not self or not is_plain or not self.fits():
            return arguments, keywords
        _known.texts = texts
        return arguments, {key: value for key, value in keywords.items() if key != "attention_mask"}

    def end(self, _model: Any, _arguments: Any, _outputs: Any) -> None:
        """After the whole model."""
        _known.texts = None

    def gather(self, _part: Any, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Before the layers of an encoder."""
        texts = _known.texts
        if texts is None:
            return None
        keywords = {**keywords, **_borders(texts)}
        if "hidden_states" in keywords:
            keywords["hidden_states"] = _gathered(keywords["hidden_states"], texts)
            return arguments, keywords
        return (_gathered(arguments[0], texts), *arguments[1:]), keywords

    def gather_embeddings(
        self, part: Any, arguments: Any, keywords: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        """Before a decoder: its embeddings are made here, since those who watch them know the batch's shape."""
        texts = _known.texts
        if texts is None:
            return None
        named = dict(zip(inspect.signature(part.forward).parameters, arguments, strict=False))
        keywords = {**named, **keywords, **_borders(texts), "use_cache": False}
        given, states = keywords.pop("input_ids", None), keywords.get("inputs_embeds")
        states = part.get_input_embeddings()(given) if states is None else states
        keywords["inputs_embeds"] = _gathered(states, texts)
        keywords["position_ids"] = texts.positions[None]
        return (), keywords

    def scatter(self, _part: Any, _arguments: Any, outputs: Any) -> Any:
        """After the layers: the batch's shape again, or one row a text where only first tokens were computed."""
        texts = _known.texts
        if texts is None:
            return outputs
        states = outputs.last_hidden_state
        is_whole = states.shape[1] == len(texts.places)
        outputs.last_hidden_state = _Scatter.apply(states, texts) if is_whole else states.transpose(0, 1)  # type: ignore[no-untyped-call]
        return outputs


def _borders(texts: Texts) -> dict[str, Any]:
    """As transformers names them."""
    bounds, longest = texts.bounds, texts.longest
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def first_tokens(options: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Where the texts' first tokens are, and attention's options where these alone ask."""
    bounds = options["cu_seq_lens_q"]
    ends = torch.arange(len(bounds), dtype=torch.int32, device=bounds.device)
    return bounds[:-1], {**options, "cu_seq_lens_q": ends, "max_length_q": 1}


def _within_borders(own: Callable[..., Any]) -> Callable[..., Any]:
    """Attention that goes by borders where it is given some; batch × heads × length × size to batch × length × …."""

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
    ) -> tuple[Tensor, Any]:
        if options.get("cu_seq_lens_q") is None:
            attended: tuple[Tensor, Any] = own(module, query, key, value, attention_mask, **options)
            return attended
        is_causal = options.get("is_causal")
        borders = Borders(
            options["cu_seq_lens_q"],
            options["cu_seq_lens_k"],
            options["max_length_q"],
            options["max_length_k"],
            is_causal=module.is_causal if is_causal is None else is_causal,
            window=options.get("sliding_window"),
            scaling=options.get("scaling"),
        )
        kind = computed_in(query)
        asked, seen, values = (states.transpose(1, 2).flatten(0, 1).to(kind) for states in (query, key, value))
        return attend(asked, seen, values, borders)[None], None

    return attention


def _gathered(states: Tensor, texts: Texts) -> Tensor:
    gathered: Tensor = _Gather.apply(states, texts)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """The tokens of texts, batch × length × hidden to 1 × tokens × hidden."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, texts: Texts) -> Tensor:
        ctx.texts = texts
        return states.flatten(0, 1).index_select(0, texts.places)[None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _scattered(gradients[0], ctx.texts), None


class _Scatter(torch.autograd.Function):
    """The way back."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, texts: Texts) -> Tensor:
        ctx.texts = texts
        return _scattered(states, texts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].flatten(0, 1).index_select(0, ctx.texts.places)[None], None


def _scattered(states: Tensor, texts: Texts) -> Tensor:
    rows = states.new_zeros(texts.shape[0] * texts.shape[1], states.shape[-1])
    return rows.index_copy_(0, texts.places, states[0]).view(*texts.shape, -1)
