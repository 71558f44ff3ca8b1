"""Cross-entropy over a large vocabulary, chunk by chunk: the gradients are taken on the way, the logits freed.

For hidden states h (n × size), a head W (vocabulary × size), b and labels y, the loss is Σ −log softmax(h Wᵀ + b)[y],
and its gradient by the logits is softmax − onehot(y), from which those by h, W and b follow at once. So the backward
pass needs no logits, and a forward pass never holds more than one chunk of them (Liger kernels do the same on GPUs,
https://arxiv.org/abs/2410.10989).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from peftlab import onednn


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, rows: int) -> Tensor:
        wants = ctx.needs_input_grad
        by_states = torch.empty_like(states) if wants[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if wants[1] else None
        by_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wants[2] else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(states), rows):
            part, targets = states[start : start + rows], labels[start : start + rows, None]
            logits = _linear(part, weight, bias)
            kind = logits.dtype
            logits = logits.float()
            logits -= logits.logsumexp(dim=-1, keepdim=True)
            total -= logits.gather(1, targets).sum()
            if not any(wants[:3]):
                continue
            gradient = logits.exp_()
            gradient.scatter_add_(1, targets, torch.full_like(targets, -1, dtype=gradient.dtype))
            if by_bias is not None:
                by_bias += gradient.sum(dim=0)
            gradient = gradient.to(kind)
            if by_states is not None:
                by_states[start : start + rows] = _linear(gradient, weight.to(kind).t())
            if by_weight is not None:
                by_weight += gradient.T @ part.to(kind)
        ctx.gradients = (
            by_states,
            None if by_weight is None else by_weight.to(weight.dtype),
            None if by_bias is None or bias is None else by_bias.to(bias.dtype),
        )
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        (scale,) = outputs
        # The loss is the end of the graph: its factor is a number, and each gradient is used once.
        scaled = [None if gradient is None else gradient.mul_(scale) for gradient in ctx.gradients]
        ctx.gradients = None
        return (*scaled, None, None)


def _linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    compute = functional.linear if torch.is_autocast_enabled(states.device.type) else onednn.linear
    return compute(states, weight, bias)


def chunked_cross_entropy(states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, rows: int) -> Tensor:
    """Sum of the cross-entropy of a linear head.

    Args:
        states: Hidden states, n × size.
        weight: Of the head, vocabulary × size.
        bias: Of the head.
        labels: n token ids.
        rows: States whose logits are held at once.

    Returns:
        A scalar in float32; it can be differentiated once.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(states, weight, bias, labels, rows)  # type: ignore[no-untyped-call]
    return loss
