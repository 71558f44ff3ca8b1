"""Schedules without keys."""

from __future__ import annotations

import math

from peftlab.core.schedule import SCHEDULES, Place, Schedule


@SCHEDULES.register("constant")
class Constant(Schedule):
    """The peak, to the end."""

    def factor(self, place: Place) -> float:
        """Always 1."""
        return 1.0


@SCHEDULES.register("linear")
class Linear(Schedule):
    """Falls to 0 in a straight line."""

    def factor(self, place: Place) -> float:
        """From 1 to 0."""
        return 1 - place.progress


@SCHEDULES.register("cosine")
class Cosine(Schedule):
    """Falls to 0 along half a cosine (https://arxiv.org/abs/1608.03983)."""

    def factor(self, place: Place) -> float:
        """From 1 to 0."""
        return (1 + math.cos(math.pi * place.progress)) / 2
