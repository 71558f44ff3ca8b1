"""Estimators of the policy gradient. Each is put together from the same few parts.

Where the model that learns is still the one that wrote, all ratios are 1: then ``gspo`` has the gradient of ``grpo``,
and ``cispo`` that of ``dapo``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Estimator = Literal["grpo", "dr_grpo", "rloo", "dapo", "gspo", "cispo"]
Scale = Literal["group", "batch", "none"]


@dataclass(frozen=True)
class Parts:
    """What an estimator is made of.

    Args:
        scale: Advantages are in standard deviations of the ``group``, or of the rewards of the whole roll-out
            (``batch``), or stay as they are.
        baseline: The mean reward of the ``group``, or of the ``others`` in it.
        ratio: What is compared with the model that wrote: each ``token``, the whole ``response``, or its ``mean`` over
            the tokens.
        bound: How far the ratio counts: by a ``clip`` of the gain, or as a ``weight`` that is capped and has no
            gradient.
        average: Tokens are added up and divided by those of the ``response``, by the most that a response may have
            (``longest``), or by those of the whole ``step``; or they are added up alone (``none``).
    """

    scale: Scale
    baseline: Literal["group", "others"]
    ratio: Literal["token", "response", "mean"]
    bound: Literal["clip", "weight"]
    average: Literal["response", "longest", "step", "none"]


ESTIMATORS: Mapping[Estimator, Parts] = {
    # Shao et al. 2024 (https://arxiv.org/abs/2402.03300), equations 3 and 4
    "grpo": Parts("group", "group", "token", "clip", "response"),
    # Liu et al. 2025 (https://arxiv.org/abs/2503.20783): no response weighs more for its length
    "dr_grpo": Parts("none", "group", "token", "clip", "longest"),
    # Ahmadian et al. 2024 (https://arxiv.org/abs/2402.14740): each response is one action
    "rloo": Parts("none", "others", "response", "clip", "none"),
    # Yu et al. 2025 (https://arxiv.org/abs/2503.14476), section 3.3; over all tokens of a step, as trl and verl have it
    "dapo": Parts("group", "group", "token", "clip", "step"),
    # Zheng et al. 2025 (https://arxiv.org/abs/2507.18071), equations 5 and 7
    "gspo": Parts("group", "group", "mean", "clip", "response"),
    # MiniMax 2025 (https://arxiv.org/abs/2506.13585), section 3.1; without a lower bound, as there
    "cispo": Parts("group", "group", "token", "weight", "step"),
}
SAME_AT_FIRST: Mapping[str, Estimator] = {"gspo": "grpo", "cispo": "dapo"}
"""Estimators that have another one's gradient as long as the model has not moved since it wrote."""
GSPO_CLIP = (3e-4, 4e-4)
"""The bounds of the paper (section 5.1). The mean over a response's tokens moves far less than a token."""
CISPO_HIGH = 4.0
"""A weight is 5 at most, as in Khatri et al. 2025 (https://arxiv.org/abs/2510.13786)."""
