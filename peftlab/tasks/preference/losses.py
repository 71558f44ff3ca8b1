"""Losses of preferences, of the log-probabilities of whole responses alone. All of them are sums over no examples.

For a pair the first row of a tensor is the chosen response, the second one the rejected. The formulas are those of the
papers, as trl 1.16 writes them, which has been compared with IPO's authors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

PairLoss = Literal[
    "dpo",
    "ipo",
    "cdpo",
    "robust",
    "length_normalised",
    "hinge",
    "apo_zero",
    "apo_down",
    "nca",
    "sppo",
    "discopop",
    "orpo",
    "simpo",
    "cpo",
]
WITHOUT_REFERENCE = ("orpo", "simpo", "cpo")
"""Losses that ask no reference."""
DISCOPOP_TAU = 0.05
"""Of the paper."""
PER_TOKEN = ("ipo", "length_normalised", "orpo", "simpo")
"""Losses that look at the mean over a response's tokens, not at their sum."""


@dataclass(frozen=True)
class Responses:
    """Responses as a model writes them.

    Args:
        sums: The log-probability of each (2 × pairs, or responses), in nats.
        counts: Its tokens, the end token included.
        reference: Its log-probability by the untouched base; None: no reference is asked.
    """

    sums: Tensor
    counts: Tensor
    reference: Tensor | None

    @property
    def log_ratios(self) -> Tensor:
        """How much likelier each is than to the reference: log π(y|x) − log π_ref(y|x); without one, log π(y|x)."""
        return self.sums if self.reference is None else self.sums - self.reference

    def rewards(self, loss: str, beta: float) -> Tensor:
        """The reward that a loss implies for each response (Rafailov et al. 2023, equation 5)."""
        values = self.log_ratios / self.counts if loss in PER_TOKEN else self.log_ratios
        return beta * values


def pair_losses(loss: PairLoss, pairs: Responses, *, beta: float, label_noise: float, gamma: float) -> Tensor:
    """The loss of each pair (pairs).

    Args:
        loss: ``dpo``: https://arxiv.org/abs/2305.18290, ``ipo``: https://arxiv.org/abs/2310.12036 (over the mean of a
            response's tokens), ``cdpo``: https://ericmitchell.ai/cdpo.pdf, ``robust``:
            https://arxiv.org/abs/2403.00409, ``length_normalised``: https://arxiv.org/abs/2411.15124 (section 5),
            ``hinge``: https://arxiv.org/abs/2309.06657 (equation 10), ``apo_zero`` and ``apo_down``:
            https://arxiv.org/abs/2408.06266 (equations 7 and 8), ``nca``: https://arxiv.org/abs/2402.05369 (of pairs),
            ``sppo``: https://arxiv.org/abs/2405.00675 (equation 4.7, where the chosen response always wins),
            ``discopop``: https://arxiv.org/abs/2406.08414 (equation 5),
            ``orpo``: https://arxiv.org/abs/2403.07691, ``simpo``: https://arxiv.org/abs/2405.14734, ``cpo``:
            https://arxiv.org/abs/2401.08417 (its other term is the chosen response's own loss).
        pairs: Tensors of 2 × pairs.
        beta: Strength; IPO's τ, ORPO's λ.
        label_noise: The share of pairs that are taken to be the wrong way round; of ``cdpo`` and ``robust``.
        gamma: The margin that SimPO asks for.
    """
    from torch.nn.functional import logsigmoid

    if loss == "orpo":
        means = pairs.sums / pairs.counts
        odds = means - _log1mexp(means)
        return -means[0] - beta * logsigmoid(odds[0] - odds[1])
    rewards = pairs.rewards(loss, beta)
    margins = rewards[0] - rewards[1]
    if loss == "ipo":
        return (margins / beta - 1 / (2 * beta)) ** 2
    if loss == "hinge":
        return (1 - margins).relu()
    if loss == "apo_zero":
        return (-rewards[0]).sigmoid() + rewards[1].sigmoid()
    if loss == "apo_down":
        return rewards[0].sigmoid() + (-margins).sigmoid()
    if loss == "nca":
        return -logsigmoid(rewards[0]) - 0.5 * (logsigmoid(-rewards[0]) + logsigmoid(-rewards[1]))
    if loss == "sppo":
        ratios = pairs.log_ratios
        return (ratios[0] - 0.5 / beta).square() + (ratios[1] + 0.5 / beta).square()
    if loss == "discopop":
        # σ(x/τ)·exp(−x) as one power: apart, the second factor overflows where the first is nearly 0.
        mixed = logsigmoid(margins / DISCOPOP_TAU)
        return -logsigmoid(margins) * logsigmoid(-margins / DISCOPOP_TAU).exp() + (mixed - margins).exp()
    if loss == "simpo":
        return -logsigmoid(margins - gamma)
    if loss == "cdpo":
        return -(1 - label_noise) * logsigmoid(margins) - label_noise * logsigmoid(-margins)
    if loss == "robust":
        noisy = label_noise * logsigmoid(-margins) - (1 - label_noise) * logsigmoid(margins)
        return noisy / (1 - 2 * label_noise)
    return -logsigmoid(margins)


def kto_losses(
    log_ratios: Tensor, others: Tensor, is_desirable: Tensor, *, beta: float, desirable: float, undesirable: float
) -> Tensor:
    """Kahneman–Tversky optimisation: the loss of each response (https://arxiv.org/abs/2402.01306, equation 8).

    Args:
        log_ratios: Of the responses (n).
        others: Of responses to other prompts (n); their mean, at least 0, estimates the KL to the reference. No
            gradient goes through it.
        is_desirable: Which of them are (n).
        beta: Strength.
        desirable: Weight of the desirable ones.
        undesirable: Weight of the others.
    """
    import torch

    divergence = others.detach().mean().clamp(min=0)
    gains = beta * (log_ratios - divergence)
    return torch.where(is_desirable, desirable * (1 - gains.sigmoid()), undesirable * (1 - (-gains).sigmoid()))


def _log1mexp(values: Tensor) -> Tensor:
    """log(1 − exp(x)) for x < 0, exact near both ends (https://cran.r-project.org/package=Rmpfr, log1mexp)."""
    import torch

    below = values.clamp(max=-torch.finfo(values.dtype).eps)
    is_near = below > -math.log(2)
    near, far = torch.where(is_near, below, -1.0), torch.where(is_near, -1.0, below)
    return torch.where(is_near, (-near.expm1()).log(), (-far.exp()).log1p())
