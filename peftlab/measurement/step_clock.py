"""The seconds of steps, on the clock of whatever computes them."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

import torch


class StepClock(Protocol):
    """Times steps one by one."""

    def start(self) -> None:
        """A step begins."""

    def stop(self) -> None:
        """It is done."""

    def seconds(self) -> float:
        """Of all steps that were stopped since the last call."""


class HostClock:
    """Of steps that are computed when they return, as on CPU."""

    def __init__(self) -> None:
        self._started = 0.0
        self._seconds = 0.0

    def start(self) -> None:
        """A step begins."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """It is done."""
        self._seconds += time.perf_counter() - self._started

    def seconds(self) -> float:
        """Of all steps that were stopped since the last call."""
        found, self._seconds = self._seconds, 0.0
        return found


class CudaClock:
    """Of steps that a card computes later: it notes the time itself, and nobody waits for it until it is read.

    Args:
        device: The card.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started: Any = None
        self._steps: deque[tuple[Any, Any]] = deque()
        self._seconds = 0.0

    def start(self) -> None:
        """A step begins."""
        self._started = self._note()

    def stop(self) -> None:
        """It is done. Steps that the card has done by now are added up: an epoch may have millions."""
        while self._steps and self._steps[0][1].query():
            self._add_first()
        self._steps.append((self._started, self._note()))

    def seconds(self) -> float:
        """Of all steps that were stopped since the last call; waits for the last of them."""
        if self._steps:
            self._steps[-1][1].synchronize()
        while self._steps:
            self._add_first()
        found, self._seconds = self._seconds, 0.0
        return found

    def _add_first(self) -> None:
        start, end = self._steps.popleft()
        self._seconds += float(start.elapsed_time(end)) / 1000

    def _note(self) -> Any:
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


def clock_of(device: torch.device) -> StepClock:
    """The clock of a device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
