"""Attention with dropout, on CPU in float32: torch has no kernel for it there.

Its plain form reads and writes the probabilities a dozen times, and keeps them three times over; here they are kept
once, with which of them stayed. The same numbers are drawn, in the same order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from peftlab.acceleration.device import device_type_of

PART = "attention_dropout"
"""What the record calls it."""
UNKNOWN = ("position_bias", "cache", "softcap", "output_attentions", "cu_seq_lens_q", "sliding_window", "s_aux")
"""Options of models that want more of attention than is computed here."""


@contextlib.contextmanager
def dropout_by_products(model: nn.Module, parts: dict[str, int | str]) -> Iterator[None]:
    """Let attention of transformers models with dropout go by :func:`attend`, as long as the context lasts.

    Args:
        model: On CPU, or not: then nothing is changed.
        parts: Is told how many layers do so, as they are met.
    """
    first = next(model.parameters(), None)
    if first is None or device_type_of(first) != "cpu":
        yield
        return
    from transformers.modeling_utils import AttentionInterface

    own = AttentionInterface._global_mapping["sdpa"]
    with mock.patch.dict(AttentionInterface._global_mapping, {"sdpa": _or_by_products(own, parts)}):
        yield


def _or_by_products(own: Callable[..., Any], parts: dict[str, int | str]) -> Callable[..., Any]:
    """Attention as transformers calls it, by torch's ``sdpa`` where it is not computed here."""
    met: set[int] = set()

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
    ) -> tuple[Tensor, Any]:
        if not _takes(module, query, key, attention_mask, options):
            attended: tuple[Tensor, Any] = own(module, query, key, value, attention_mask, **options)
            return attended
        met.add(id(module))
        parts[PART] = len(met)
        scaling = query.shape[-1] ** -0.5 if options.get("scaling") is None else options["scaling"]
        found = attend(query, key, value, attention_mask, dropout=options["dropout"], scaling=scaling)
        return found.transpose(1, 2), None

    return attention


def _takes(module: Any, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]) -> bool:
    """Whether attention with these options is computed here: with dropout, within a text, not causal by a flag."""
    asked = [options.get(name) for name in UNKNOWN]  # T5's position bias is a tensor, which has no truth of its own
    if not options.get("dropout") or any(value is not None and value is not False for value in asked):
        return False
    if mask is None:
        is_causal = options.get("is_causal")
        if getattr(module, "is_causal", True) if is_causal is None else is_causal:
            return False
    elif mask.ndim != 4 or mask.requires_grad:
        return False
    in_float32 = query.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return in_float32 and device_type_of(query) == "cpu" and query.shape == key.shape


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, dropout: float, scaling: float) -> Tensor:
    """softmax(scaling · query · keyᵀ) · value.

    Args:
        query: Batch × heads × length × size, and so are the others.
        key: Of the same texts.
        value: Of the same texts.
        mask: Batch × 1 or heads × 1 or length × length: True where a token is looked at, or what scores are added to.
        dropout: Probability that one token does not look at another.
        scaling: Of the scores.

    Returns:
        Batch × heads × length × size.
    """
    return cast("Tensor", _Attention.apply(query, key, value, mask, dropout, scaling))  # type: ignore[no-untyped-call]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float
    ) -> Tensor:
        ctx.shape, ctx.scaling = query.shape, scaling
        query, key, value = (states.reshape(-1, *states.shape[2:]) for states in (query, key, value))
        probabilities = _scores(query, key, mask, ctx.shape, scaling).softmax(dim=-1)
        kept = torch.empty_like(probabilities).bernoulli_(1 - dropout).div_(1 - dropout)
        ctx.save_for_backward(query, key, value, probabilities, kept)
        return torch.bmm(probabilities * kept, value).view(ctx.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query, key, value, probabilities, kept = ctx.saved_tensors
        gradient = gradients[0].reshape(value.shape)
        by_value = torch.bmm((probabilities * kept).mT, gradient)
        by_probabilities = torch.bmm(gradient, value.mT).mul_(kept)
        by_scores = torch._softmax_backward_data(by_probabilities, probabilities, -1, value.dtype).mul_(ctx.scaling)
        found = torch.bmm(by_scores, key), torch.bmm(by_scores.mT, query), by_value
        return *(by.view(ctx.shape) for by in found), None, None, None


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, shape: torch.Size, scaling: float) -> Tensor:
    if mask is None:
        return torch.bmm(query, key.mT).mul_(scaling)
    if mask.dtype == torch.bool:
        mask = query.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(query.dtype).min)
    scores = query.new_empty(shape[0], shape[1], shape[2], shape[2]).copy_(mask)
    return scores.view(-1, *scores.shape[2:]).baddbmm_(query, key.mT, alpha=scaling)
