"""Cosine schedules with keys of their own; transformers has them under the same names."""

from __future__ import annotations

import math

from pydantic import Field, PositiveFloat, PositiveInt

from peftlab.core.schedule import SCHEDULES, Place, Schedule


@SCHEDULES.register("cosine_with_restarts")
class CosineWithRestarts(Schedule):
    """Falls to 0 along half a cosine, again and again (https://arxiv.org/abs/1608.03983)."""

    num_cycles: PositiveInt = Field(1, description="How often.")

    def factor(self, place: Place) -> float:
        """From 1 to 0 in each cycle."""
        return (1 + math.cos(math.pi * ((self.num_cycles * place.progress) % 1.0))) / 2


@SCHEDULES.register("cosine_with_min_lr")
class CosineWithLeast(Schedule):
    """Falls along a cosine to a least rate."""

    min_lr_rate: float = Field(0.1, ge=0, lt=1, description="The least rate, as a share of the peak.")
    num_cycles: PositiveFloat = Field(0.5, description="Waves of the cosine; a half only falls.")

    def factor(self, place: Place) -> float:
        """From 1 to the least."""
        wave = (1 + math.cos(math.pi * self.num_cycles * 2.0 * place.progress)) / 2
        return max(0.0, wave * (1 - self.min_lr_rate) + self.min_lr_rate)
