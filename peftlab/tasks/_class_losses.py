"""Losses of classes beside cross-entropy: focal loss, and CORN for classes that have an order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def focal_loss(logits: Tensor, targets: Tensor, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of each term times (1 − p)^γ, p the probability of the right class; summed.

    Lin et al. 2017 (https://arxiv.org/abs/1708.02002). With γ = 0 it is cross-entropy.

    Args:
        logits: Terms × classes.
        targets: The class of each term.
        gamma: The larger, the less a term weighs whose answer is right and sure.
        weight: Of each class.
    """
    logs = logits.log_softmax(dim=-1).gather(1, targets.unsqueeze(1)).squeeze(1)
    terms = -((1 - logs.exp()) ** gamma) * logs
    return (terms if weight is None else terms * weight[targets]).sum()


def binary_focal_terms(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """The focal loss of every decision on a label; same shape as both, which hold logits, and 0 or 1."""
    from torch.nn import functional

    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (1 - (-each).exp()) ** gamma * each


def corn_loss(logits: Tensor, levels: Tensor) -> Tensor:
    """The loss of CORN, summed over its decisions (Shi et al. 2021, https://arxiv.org/abs/2111.08851).

    Output k says whether a level that is k at least is above k. So an example of level l has the decisions 0 to l, of
    which there are one fewer than levels.

    Args:
        logits: Examples × (levels − 1).
        levels: Of each example, from 0.
    """
    import torch
    from torch.nn import functional

    steps = torch.arange(logits.shape[1], device=logits.device)
    is_above = (levels.unsqueeze(1) > steps).to(logits.dtype)
    each = functional.binary_cross_entropy_with_logits(logits, is_above, reduction="none")
    return (each * (levels.unsqueeze(1) >= steps)).sum()


def corn_probabilities(logits: Tensor) -> Tensor:
    """The probability of every level, examples × levels, from CORN's outputs."""
    import torch

    above = logits.sigmoid().cumprod(dim=1)  # that the level is above 0, above 1 …
    ends = above.new_ones(len(above), 1)
    return torch.cat([ends, above], dim=1) - torch.cat([above, torch.zeros_like(ends)], dim=1)
