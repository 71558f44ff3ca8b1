"""Policy gradients with a group baseline: advantages of rewards, and the loss of responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftlab.tasks.reinforcement.estimators import Parts

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-4
"""Is added to a standard deviation."""


def advantages(rewards: Tensor, parts: Parts) -> Tensor:
    """How much better each response is than its group (groups × responses); exactly 0 where all are as good.

    In standard deviations of the group as in Shao et al. 2024, or of all rewards as in Liu et al. 2025
    (https://arxiv.org/abs/2508.08221), or of none as in Dr. GRPO.
    """
    means = rewards.mean(dim=1, keepdim=True)
    # The mean of equal numbers, such as 0.1, may be another number by its last digit.
    centred = (rewards - means).masked_fill(are_equal(rewards)[:, None], 0.0)
    if parts.baseline == "others":
        count = rewards.shape[1]
        centred = centred * count / (count - 1)
    if parts.scale == "group":
        return centred / (rewards.std(dim=1, keepdim=True) + EPSILON)
    return centred / (rewards.std() + EPSILON) if parts.scale == "batch" else centred


def are_equal(rewards: Tensor) -> Tensor:
    """Whether all responses of a group have one reward (groups)."""
    return rewards.amax(dim=1) == rewards.amin(dim=1)


def policy_losses(
    log_probabilities: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantage: Tensor,
    rows: Tensor,
    *,
    parts: Parts,
    clip: tuple[float, float],
    kl: float,
    most_tokens: int,
    unbiased_kl: bool = False,
) -> Tensor:
    """The loss of each response (responses).

    Args:
        log_probabilities: Of the responses' tokens, one row after another (tokens).
        old: The same by the model that wrote them; without a gradient.
        reference: The same by the untouched base; None: ``kl`` is 0.
        advantage: Of each response.
        rows: Which response each token is of.
        parts: Of the estimator.
        clip: How far the ratio to the old probability may be below and above 1 before it no longer counts.
        kl: Weight of the divergence from the reference, by the estimate of Schulman 2020
            (http://joschu.net/blog/kl-approx.html, k3).
        most_tokens: That a response may have.
        unbiased_kl: Whether the estimate is weighed by the ratio to the old probability, as in DeepSeek-V3.2
            (https://arxiv.org/abs/2512.02556, section 3.1): then its gradient is that of KL(π ‖ π_ref). That of k3
            alone is only near it as long as both models are near each other.
    """

    def sums(values: Tensor) -> Tensor:
        return values.new_zeros(len(advantage)).index_add(0, rows, values)

    counts = sums(log_probabilities.new_ones(len(rows))).clamp(min=1)
    shares: dict[str, Tensor | int] = {"response": counts, "longest": most_tokens, "step": 1, "none": 1}
    moved = log_probabilities - old
    divergence = None
    if reference is not None and kl:
        away = reference - log_probabilities
        divergence = away.exp() - away - 1
        divergence = divergence * moved.exp() if unbiased_kl else divergence
    if parts.ratio != "token":
        whole = sums(moved) if parts.ratio == "response" else sums(moved) / counts
        gains = _clipped(whole.exp(), advantage, clip)
        return -gains if divergence is None else kl * sums(divergence) / shares[parts.average] - gains
    if parts.bound == "weight":
        losses = -moved.exp().clamp(max=1 + clip[1]).detach() * advantage[rows] * log_probabilities
    else:
        losses = -_clipped(moved.exp(), advantage[rows], clip)
    if divergence is not None:
        losses = losses + kl * divergence
    return sums(losses) / shares[parts.average]


def _clipped(ratio: Tensor, advantage: Tensor, clip: tuple[float, float]) -> Tensor:
    """The surrogate of Schulman et al. 2017 (https://arxiv.org/abs/1707.06347, equation 7).

    With two bounds as Yu et al. 2025 (https://arxiv.org/abs/2503.14476, section 3.1) have them.
    """
    import torch

    low, high = clip
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
