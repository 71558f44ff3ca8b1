"""Schedules that fall as a power."""

from __future__ import annotations

import math

from pydantic import Field, PositiveFloat, PositiveInt

from peftlab.core.schedule import SCHEDULES, Place, Schedule


@SCHEDULES.register("polynomial")
class Polynomial(Schedule):
    """Falls as a power of what is left."""

    power: PositiveFloat = Field(1.0, description="The power; 1: a straight line.")
    end_rate: float = Field(0.0, ge=0, lt=1, description="Where it ends, as a share of the peak.")

    def factor(self, place: Place) -> float:
        """From 1 to the end."""
        return (1 - self.end_rate) * math.pow(1 - place.progress, self.power) + self.end_rate


@SCHEDULES.register("inverse_sqrt")
class InverseSquareRoot(Schedule):
    """Falls as one over the root of the step (https://arxiv.org/abs/1706.03762)."""

    timescale: PositiveInt | None = Field(
        None, description="Steps until it falls. null: those of the warm-up, or 10,000 without one."
    )

    def factor(self, place: Place) -> float:
        """From 1 downwards; it never reaches 0."""
        timescale = self.timescale or place.warmup or 10_000
        return 1 / math.sqrt((place.step + timescale - place.warmup) / timescale)
