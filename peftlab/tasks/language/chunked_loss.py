"""Cross-entropy over a large vocabulary, chunk by chunk: the gradients are taken on the way, the logits freed.

For hidden states h (n × size), a head W (vocabulary × size), b and labels y, the loss is Σ −log softmax(h Wᵀ + b)[y],
and its gradient by the logits is softmax − onehot(y), from which those by h, W and b follow at once. So the backward
pass needs no logits, and a forward pass never holds more than one chunk of them (Liger kernels do the same on GPUs,
https://arxiv.org/abs/2410.10989). Within a chunk the vocabulary is taken in blocks, each with a maximum of its own, as
in online softmax (Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from peftlab.acceleration import onednn
from peftlab.acceleration.device import device_type_of

CPU_BLOCK = 8192
"""Tokens of a block on CPU. oneDNN takes a third more time for a gradient's product with 49,152 tokens at once, and
blocks of this size are made in memory that was used just before. Other devices do best with one block."""

ELEMENTS_ON_CARD = 1 << 28
"""Logits of a chunk on a large card: 1 GiB in float32. For each chunk the whole head is read twice."""
BYTES_AN_ELEMENT = 8
"""Of a chunk: its logits in half precision, in float32, and the gradient by them in half precision."""
SHARE_OF_CARD = 32
"""A chunk takes at most one of so many parts of a card's memory."""


def elements_on_card(memory_bytes: int | None) -> int:
    """Logits of a chunk on a card with so much memory; None: unknown."""
    if memory_bytes is None:
        return ELEMENTS_ON_CARD
    return min(ELEMENTS_ON_CARD, memory_bytes // (SHARE_OF_CARD * BYTES_AN_ELEMENT))


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        rows: int,
        smoothing: float,
        weights: Tensor | None,
    ) -> Tensor:
        wants = ctx.needs_input_grad
        by_states = torch.empty_like(states) if wants[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if wants[1] else None
        by_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wants[2] else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(states), rows):
            part, targets = states[start : start + rows], labels[start : start + rows, None]
            blocks = [_Block.of(part, targets, weight, bias, tokens, smoothing) for tokens in _blocks(weight)]
            normaliser = _normaliser(blocks)
            of_targets = torch.stack([block.of_targets for block in blocks])
            own = None if weights is None else weights[start : start + rows, None]
            if own is None:
                total += normaliser.sum() - of_targets.sum()
            else:
                total += ((normaliser - of_targets.sum(dim=0)) * own).sum()
            if not any(wants[:3]):
                continue
            weighed = part if own is None else part * own.to(part.dtype)
            by_part = torch.zeros_like(part, dtype=torch.float32) if by_states is not None else None
            for block in blocks:
                gradient = block.gradient(normaliser)
                if by_bias is not None:
                    by_bias[block.tokens] += (gradient if own is None else gradient * own).sum(dim=0)
                gradient = gradient.to(block.kind)
                if by_part is not None:
                    by_part += _linear(gradient, weight[block.tokens].to(block.kind).t())
                if by_weight is not None:
                    by_weight[block.tokens] += gradient.T @ weighed.to(block.kind)
            if by_states is not None and by_part is not None:
                by_states[start : start + rows] = by_part if own is None else by_part.mul_(own)
        found = zip((by_states, by_weight, by_bias), (states, weight, bias), strict=True)
        ctx.gradients = [
            None if gradient is None or tensor is None else gradient.to(tensor.dtype) for gradient, tensor in found
        ]
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        (scale,) = outputs
        # The loss is the end of the graph: its factor is a number, and each gradient is used once.
        scaled = [None if gradient is None else gradient.mul_(scale) for gradient in ctx.gradients]
        ctx.gradients = None
        return (*scaled, None, None, None, None)


class _ChunkedLosses(torch.autograd.Function):
    """The losses of all rows under a head that does not train: then each row's gradient is a multiple of one row."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, rows: int) -> Tensor:
        wants_states = ctx.needs_input_grad[0]
        ctx.by_states = torch.empty_like(states) if wants_states else None
        losses = torch.empty(len(states), dtype=torch.float32, device=states.device)
        for start in range(0, len(states), rows):
            part, targets = states[start : start + rows], labels[start : start + rows, None]
            blocks = [_Block.of(part, targets, weight, bias, tokens, 0.0) for tokens in _blocks(weight)]
            normaliser = _normaliser(blocks)
            of_targets = torch.stack([block.of_targets for block in blocks]).sum(dim=0)
            losses[start : start + rows] = (normaliser - of_targets).squeeze(1)
            if ctx.by_states is None:
                continue
            by_part = torch.zeros_like(part, dtype=torch.float32)
            for block in blocks:
                gradient = block.gradient(normaliser).to(block.kind)
                by_part += _linear(gradient, weight[block.tokens].to(block.kind).t())
            ctx.by_states[start : start + rows] = by_part
        return losses

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        (scales,) = outputs
        by_states = None if ctx.by_states is None else ctx.by_states.mul_(scales[:, None].to(ctx.by_states.dtype))
        ctx.by_states = None
        return by_states, None, None, None, None


def chunked_losses(states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, rows: int) -> Tensor:
    """The cross-entropy of each label (labels), in float32; logits are made once, also for the gradient.

    Args:
        states: Labels × size.
        weight: Of the head (vocabulary × size); it must not train.
        bias: Of the head.
        labels: One a row.
        rows: Of a chunk.
    """
    losses: Tensor = _ChunkedLosses.apply(states, weight, bias, labels, rows)  # type: ignore[no-untyped-call]
    return losses


@dataclass(frozen=True)
class _Block:
    """What a chunk's rows have to do with some tokens of the vocabulary.

    Args:
        tokens: Which ones.
        kind: The type that the logits were computed in; all else is in float32.
        maximum: Rows × 1: the greatest logit m.
        exponentials: Rows × tokens: exp(logit − m).
        places: Rows × 1: where the label stands among the tokens; anywhere, where it is none of them.
        is_here: Rows × 1: 1 where the label is one of them, else 0.
        of_targets: Rows × 1: the logits times their targets; without smoothing the label's logit, or 0.
        smoothing: The share of the target that all tokens of the vocabulary have alike.
        each: That share for one token.
    """

    tokens: slice
    kind: torch.dtype
    maximum: Tensor
    exponentials: Tensor
    places: Tensor
    is_here: Tensor
    of_targets: Tensor
    smoothing: float
    each: float

    @classmethod
    def of(
        cls, states: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None, tokens: slice, smoothing: float
    ) -> _Block:
        """Of states (rows × size) and their labels (rows × 1)."""
        computed = _linear(states, weight[tokens], None if bias is None else bias[tokens])
        logits = computed.float()
        places = (labels - tokens.start).clamp(0, logits.shape[1] - 1)
        is_here = (places == labels - tokens.start).float()
        of_targets, each = logits.gather(1, places) * is_here, smoothing / len(weight)
        if smoothing:
            of_targets = (1 - smoothing) * of_targets + each * logits.sum(dim=1, keepdim=True)
        maximum = logits.amax(dim=1, keepdim=True)
        exponentials = logits.sub_(maximum).exp_()
        return cls(tokens, computed.dtype, maximum, exponentials, places, is_here, of_targets, smoothing, each)

    def gradient(self, normaliser: Tensor) -> Tensor:
        """By the logits, for the rows' log Σ exp(logit) over all blocks; takes the place of the exponentials."""
        softmax = self.exponentials.mul_((self.maximum - normaliser).exp_())
        if self.smoothing:
            softmax.sub_(self.each)
        return softmax.scatter_add_(1, self.places, (self.smoothing - 1) * self.is_here)


def _normaliser(blocks: Sequence[_Block]) -> Tensor:
    """The logarithm of the sum over the whole vocabulary (rows × 1)."""
    maxima = torch.cat([block.maximum for block in blocks], dim=1)
    sums = torch.cat([block.exponentials.sum(dim=1, keepdim=True) for block in blocks], dim=1)
    return (maxima + sums.log()).logsumexp(dim=1, keepdim=True)


def _blocks(weight: Tensor) -> list[slice]:
    size = CPU_BLOCK if device_type_of(weight) == "cpu" else len(weight)
    return [slice(start, min(start + size, len(weight))) for start in range(0, len(weight), size)]


def _linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    compute = functional.linear if torch.is_autocast_enabled(states.device.type) else onednn.linear
    return compute(states, weight, bias)


def chunked_cross_entropy(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    rows: int,
    *,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum of the cross-entropy of a linear head.

    Args:
        states: Hidden states, n × size.
        weight: Of the head, vocabulary × size.
        bias: Of the head.
        labels: n token ids.
        rows: States whose logits may be held at once; chunks of about the same size are made.
        label_smoothing: The share of each target that all tokens have alike.
        weights: What each label counts, n; None: all 1.

    Returns:
        A scalar in float32; it can be differentiated once.
    """
    chunks = max(1, math.ceil(len(states) / rows))
    even = max(1, math.ceil(len(states) / chunks))
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, weight, bias, labels, even, label_smoothing, weights
    )
    return loss
