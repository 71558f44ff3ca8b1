"""Policy gradients with a group baseline: advantages of rewards, and the loss of responses.

- ``grpo``: Shao et al. 2024 (https://arxiv.org/abs/2402.03300, equations 3 and 4): the mean over each response's
  tokens, advantages in standard deviations of the group.
- ``dr_grpo``: Liu et al. 2025 (https://arxiv.org/abs/2503.20783): neither is divided by, so that no response weighs
  more for its length; the sum over the tokens is divided by the most that a response may have.
- ``rloo``: Ahmadian et al. 2024 (https://arxiv.org/abs/2402.14740): each response is one action, whose baseline is the
  mean reward of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Literal["grpo", "rloo", "dr_grpo"]
EPSILON = 1e-4
"""Is added to a group's standard deviation."""


def advantages(rewards: Tensor, estimator: Estimator) -> Tensor:
    """How much better each response is than its group (groups × responses); exactly 0 where all are as good."""
    means = rewards.mean(dim=1, keepdim=True)
    # The mean of equal numbers, such as 0.1, may be another number by its last digit.
    centred = (rewards - means).masked_fill(are_equal(rewards)[:, None], 0.0)
    if estimator == "rloo":
        count = rewards.shape[1]
        return centred * count / (count - 1)
    return centred / (rewards.std(dim=1, keepdim=True) + EPSILON) if estimator == "grpo" else centred


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
    estimator: Estimator,
    clip: tuple[float, float],
    kl: float,
    most_tokens: int,
) -> Tensor:
    """The loss of each response (responses).

    Args:
        log_probabilities: Of the responses' tokens, one row after another (tokens).
        old: The same by the model that wrote them; without a gradient.
        reference: The same by the untouched base; None: ``kl`` is 0.
        advantage: Of each response.
        rows: Which response each token is of.
        estimator: Which loss.
        clip: How far the ratio to the old probability may be below and above 1 before it no longer counts.
        kl: Weight of the divergence from the reference, by the estimate of Schulman 2020
            (http://joschu.net/blog/kl-approx.html, k3).
        most_tokens: That a response may have.
    """

    def sums(values: Tensor) -> Tensor:
        return values.new_zeros(len(advantage)).index_add(0, rows, values)

    counts = sums(log_probabilities.new_ones(len(rows))).clamp(min=1)
    divergence = None
    if reference is not None and kl:
        away = reference - log_probabilities
        divergence = away.exp() - away - 1
    if estimator == "rloo":
        gains = _clipped(sums(log_probabilities - old).exp(), advantage, clip)
        return -gains if divergence is None else kl * sums(divergence) - gains
    losses = -_clipped((log_probabilities - old).exp(), advantage[rows], clip)
    if divergence is not None:
        losses = losses + kl * divergence
    return sums(losses) / (counts if estimator == "grpo" else most_tokens)


def _clipped(ratio: Tensor, advantage: Tensor, clip: tuple[float, float]) -> Tensor:
    """The surrogate of Schulman et al. 2017 (https://arxiv.org/abs/1707.06347, equation 7).

    With two bounds as Yu et al. 2025 (https://arxiv.org/abs/2503.14476, section 3.1) have them.
    """
    import torch

    low, high = clip
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
