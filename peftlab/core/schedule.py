"""The contract of a schedule: a class whose fields are the keys of ``training.schedule``."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peftlab.core.config import RegisteredConfig
from peftlab.core.registry import Registry


@dataclass(frozen=True)
class Place:
    """Where a step after the warm-up stands.

    Args:
        step: From 0.
        warmup: Steps of the warm-up.
        total: Steps of the run.
    """

    step: int
    warmup: int
    total: int

    @property
    def progress(self) -> float:
        """From 0 at the first step after the warm-up to 1 behind the last."""
        return (self.step - self.warmup) / max(1, self.total - self.warmup)


class Schedule(RegisteredConfig):
    """A schedule. The docstring's first line is what ``peftlab ls schedules`` shows.

    The rate is a function of the step alone, so that resuming needs no state.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    @abstractmethod
    def factor(self, place: Place) -> float:
        """What the peak is multiplied by after the warm-up."""


SCHEDULES: Registry[Schedule] = Registry(
    "schedule", package="peftlab.training.schedules", entry_point_group="peftlab.schedules", base=Schedule
)
