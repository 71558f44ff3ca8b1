"""Scales of axes: from values to pixels, with round numbers as ticks."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

LOG_SPAN = 8.0
"""Values whose greatest is so many times the smallest go on a logarithmic axis, where the axis may be one."""
MOST_WIDTHS = 3.0
"""An interval so many times as wide as the middle one has room on an axis; a wider one is cut."""


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis.

    Args:
        low: Value at the first end.
        high: Value at the other end; greater than ``low``.
        start: Pixel of ``low``.
        end: Pixel of ``high``.
        logarithmic: Whether equal distances are equal factors; then ``low`` is positive.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; values beyond the ends are put there."""
        low, high = self._of(self.low), self._of(self.high)
        share = (self._of(max(min(value, self.high), self.low)) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(self, most: int = 6) -> list[float]:
        """Round values between the ends, ``most`` at most or a few more."""
        return log_ticks(self.low, self.high, most) if self.logarithmic else linear_ticks(self.low, self.high, most)


def fit_scale(
    values: Sequence[float], start: float, end: float, *, may_be_log: bool = False, pad: float = 0.06
) -> Scale:
    """An axis that holds all values, with some room at both ends."""
    low, high = min(values), max(values)
    if may_be_log and low >= sys.float_info.min and high / low >= LOG_SPAN:
        room = (high / low) ** pad
        # Nothing below the smallest float, nor beyond the largest, has a place on the axis.
        return Scale(max(low / room, sys.float_info.min), min(high * room, sys.float_info.max), start, end, True)
    room = (high - low) * pad or abs(high) * 0.05 or 0.5
    return Scale(low - room, high + room, start, end)


def interval_ends(means: Sequence[float], ends: Sequence[float], widths: Sequence[float] = ()) -> list[float]:
    """What an axis of means with intervals must hold: the means, and the intervals as far as these let one see.

    One interval that is very wide, of a method whose seeds fell apart, would else press all others into a line. Such an
    end is drawn at the axis's end, with an arrow.

    Args:
        means: Of all methods.
        ends: Of all intervals.
        widths: From each mean to an end of its interval; what is usual among them always has room.
    """
    low, high = min(means), max(means)
    usual = statistics.median_low(widths) if widths else 0.0
    room = max((high - low) / 2, MOST_WIDTHS * usual)
    return [*means, *(min(max(end, low - room), high + room) if room > 0 else end for end in ends)]


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten, with 2 and 5 times them or 3 times them where there is room."""
    for factors in ((1, 2, 5), (1, 3), (1,)):
        exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]
