"""What every schedule must keep: the rate is a function of the step alone, between nothing and the peak."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

from peftlab.core.registry import Registry
from peftlab.core.schedule import SCHEDULES, Place
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.chance import asked_twice
from peftlab.testing.plugin_contract import PluginContract, Section

RUNS = ((0, 1), (1, 2), (0, 2), (0, 7), (3, 40), (100, 1000), (1000, 1000))
"""Steps of the warm-up and of the run, from the shortest there is."""


class ScheduleContract(PluginContract):
    """The tests of a schedule. Inherit them in a file that pytest collects, and say which schedule they are of.

    .. code-block:: python

        from peftlab.testing import ScheduleContract


        class TestHalving(ScheduleContract):
            plugin = {"type": "halving", "times": 2}
    """

    registry: ClassVar[Registry[Any]] = SCHEDULES

    def test_the_rate_stays_between_nothing_and_the_peak(self, section: Section) -> None:
        """In runs of any length; the first step after the warm-up moves."""
        schedule = self.build(section)
        for place in _places():
            factor, at = self._factor(schedule, place), _told(place)
            require(
                isinstance(factor, int | float) and math.isfinite(factor),
                f"{section['type']} gives {factor!r} at {at}",
                hint="It gives a finite number.",
            )
            require(
                0 <= factor <= 1 + 1e-9,
                f"{section['type']} gives {factor:.6g} at {at}: "
                + ("the model would climb" if factor < 0 else "the rate would be above its peak"),
                hint="The factor is a share of the peak, `training.learning_rate`: from 0 to 1.",
            )
            require(
                place.step > place.warmup or factor > 0,
                f"{section['type']} gives 0 at {at}, the first after the warm-up: a step that moves nothing",
            )

    def test_a_resumed_run_has_the_same_rates(self, section: Section) -> None:
        """A schedule has no state: it is asked for any step, in any order, and estimates ask it too."""
        schedule, places = self.build(section), list(_places())
        forwards = asked_twice(
            section["type"], lambda: [self._factor(schedule, place) for place in places], source="nowhere"
        )
        again = self.build(section)
        backwards = [self._factor(again, place) for place in places[::-1]][::-1]
        for place, one, other in zip(places, forwards, backwards, strict=True):
            require(
                one == other,
                f"{section['type']} gives {one!r} at {_told(place)}, and {other!r} where it is asked in another order",
                hint="The rate is a function of `place` alone: a resumed run begins in the middle.",
            )

    def _factor(self, schedule: Any, place: Place) -> Any:
        __tracebackhide__ = True
        try:
            return schedule.factor(place)
        except Exception as error:
            raise BrokenContractError(
                f"{schedule.registered_name} raises {type(error).__name__} at {_told(place)}: {error}",
                hint="`place.progress` is from 0 to 1 in a run of any length.",
            ) from error


def _places() -> Iterator[Place]:
    """The steps of all runs that are asked for a factor."""
    for warmup, total in RUNS:
        for step in range(warmup, total):
            yield Place(step, warmup, total)


def _told(place: Place) -> str:
    return f"step {place.step} of {place.total}, {place.warmup} of them warm-up"
