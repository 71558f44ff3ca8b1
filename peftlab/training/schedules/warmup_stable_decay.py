"""Warm-up, stable, decay (https://arxiv.org/abs/2404.06395)."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from peftlab.core.schedule import SCHEDULES, Place, Schedule


@SCHEDULES.register("warmup_stable_decay")
class WarmupStableDecay(Schedule):
    """Stays at the peak, and falls in the last steps (https://arxiv.org/abs/2404.06395)."""

    decay_fraction: float = Field(0.2, gt=0, le=1, description="Share of the steps in which the rate falls.")
    decay: Literal["cosine", "linear", "1-sqrt"] = Field("cosine", description="How it falls.")
    min_lr_ratio: float = Field(0.0, ge=0, lt=1, description="Where it ends, as a share of the peak.")

    def factor(self, place: Place) -> float:
        """1, then down to the least."""
        falling = min(math.ceil(self.decay_fraction * place.total), place.total - place.warmup)
        done = (place.step - (place.total - falling)) / max(1, falling)
        if done < 0:
            return 1.0
        falls = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "1-sqrt": 1 - math.sqrt(done)}
        return max(0.0, falls[self.decay] * (1 - self.min_lr_ratio) + self.min_lr_ratio)
