"""Phases: each with its own seconds and its own peak of memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from peftlab.core.record import Phase


class PhaseClock:
    """Adds up the time of named phases. A phase inside another pauses the outer one.

    Args:
        device: On CUDA the peaks are the allocator's; on CPU they are set from outside.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] = {}
        self._peaks: dict[str, int] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def set_peak(self, name: str, peak_bytes: int) -> None:
        """Note a peak of memory that was measured for a phase; the highest stays."""
        self._peaks[name] = max(self._peaks.get(name, 0), peak_bytes)

    def state_dict(self) -> dict[str, Any]:
        """The seconds so far, for a checkpoint; open phases are counted up to now."""
        self._switch()
        return {"seconds": dict(self._seconds)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Add what an interrupted run spent on training and evaluation; loading and measuring are done anew."""
        for name in ("train", "evaluate"):
            self._seconds[name] = self._seconds.get(name, 0.0) + state["seconds"].get(name, 0.0)

    def summary(self) -> dict[str, Phase]:
        """Seconds and peaks by phase."""
        return {
            name: Phase(seconds=seconds, peak_memory_bytes=self._peaks.get(name))
            for name, seconds in self._seconds.items()
        }

    def _switch(self) -> None:
        """Close the account of the phase that is running, and open a new one."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._since
            if self._device.type == "cuda":
                self.set_peak(name, torch.cuda.max_memory_allocated(self._device))
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._since = now
