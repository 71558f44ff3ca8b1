"""The weights of an optimizer that keeps averages, such as the schedule-free ones (https://arxiv.org/abs/2405.15682).

They train at one point and evaluate at another. Their own way there and back loses the last digits, so the point of
training is kept aside: a run that is evaluated goes on from the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def averaged_weights(optimizer: Any, model: nn.Module) -> dict[str, Tensor]:
    """The trained parameters, by name, as the optimizer evaluates them; the model stays as it is.

    Args:
        optimizer: With ``eval``, and ``train_mode`` in its groups.
        model: In training.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimizer.eval()
    averages = {name: parameter.detach().clone() for name, parameter in trained.items()}
    for name, parameter in trained.items():
        parameter.copy_(before[name])
    for group in optimizer.param_groups:
        group["train_mode"] = True
    return averages
