"""Whether the loss stays finite in every step, without waiting for the device in every step."""

from __future__ import annotations

import torch
from torch import Tensor

from peftlab.training.evaluation import DivergedError


class LossWatch:
    """Notes on the device which step was the first whose loss or gradient's norm was no finite number.

    Args:
        device: Where losses are computed.
        learning_rate: The peak, for the message.
    """

    def __init__(self, device: torch.device, learning_rate: float) -> None:
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self._learning_rate = learning_rate

    def look(self, step: int, *values: Tensor) -> None:
        """Take in what a step gave; nothing is read back."""
        is_finite = torch.isfinite(torch.stack([value.detach().float() for value in values])).all()
        is_first = (self._first_bad == 0) & ~is_finite
        self._first_bad += is_first * step

    def check(self) -> None:
        """Read back what was noted.

        Raises:
            DivergedError: Some step so far had a loss or a norm that was not finite.
        """
        step = int(self._first_bad)
        if step:
            raise DivergedError(
                f"the loss or the gradient's norm was not finite at step {step}",
                hint=f"Lower training.learning_rate (it is {self._learning_rate:g}).",
            )
