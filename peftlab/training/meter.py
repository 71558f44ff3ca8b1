"""What measures the speed of the steps, as the loop sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from peftlab.core.record import Throughput


class Meter(Protocol):
    """Measures the speed of the steps; see ``peftlab.measurement``."""

    def step_started(self) -> None:
        """A step's work begins."""

    def step_ended(self, lengths: Sequence[int], padded_tokens: int, terms: int) -> None:
        """A step's work is done."""

    def pass_ended(self, lengths: Sequence[int], padded_tokens: int) -> None:
        """A pass that all steps share is done; it began as a step does."""

    def head_alone(self, step_flops: Any) -> None:
        """From now on steps read no tokens."""

    def summary(self, *, matmul_flops_per_second: float | None) -> Throughput | None:
        """The figures so far."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
