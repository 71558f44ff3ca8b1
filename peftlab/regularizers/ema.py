"""EMA: the run leaves an exponential moving average of its weights (https://arxiv.org/abs/2411.18704)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from peftlab.core.regularizer import REGULARIZERS
from peftlab.regularizers._averages import WeightAverage

if TYPE_CHECKING:
    from torch import nn


@REGULARIZERS.register("ema")
class Ema(WeightAverage):
    """EMA: evaluation and artifact take a moving average of the trained weights."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2411.18704"

    decay: float = Field(
        0.999,
        gt=0,
        lt=1,
        description="Decay of the average at each step. In the first steps it is less: (1 + step) / (10 + step).",
    )

    def after_step(self, model: nn.Module, step: int) -> None:
        """Move the average; while it is young it follows faster, so that it forgets where the weights began."""
        self._move_mean(model, 1 - min(self.decay, (1 + step) / (10 + step)))
