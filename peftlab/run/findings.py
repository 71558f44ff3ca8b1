"""What a run has found so far; a run that fails half-way still has an honest record of the first half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peftlab.core.errors import PluginError
from peftlab.core.given_values import check_kind, check_plain
from peftlab.core.record import Calibration, Earlier, Guard, Memory, Parameters, Throughput
from peftlab.measurement.phases import PhaseClock
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.progress import Progress


@dataclass
class Findings:
    """Every stage writes here what it finds, as soon as it knows."""

    clock: PhaseClock
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: Calibration | None = None
    learned: dict[str, Any] = field(default_factory=dict)
    guards: dict[str, Guard] = field(default_factory=dict)
    memory: Memory | None = None
    throughput: Throughput | None = None
    parameters: Parameters | None = None
    artifact_bytes: int | None = None
    weights_fingerprint: str | None = None
    initial_adapter_sha256: str | None = None
    base_sha256: str | None = None
    base_fingerprint: str | None = None
    own_head: str | None = None
    progress: Progress = field(default_factory=Progress)
    micro_batches: MicroBatches = field(default_factory=MicroBatches)
    acceleration: dict[str, int | str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    earlier: Earlier | None = None
    resumed: int = 0
    earlier_seconds: float = 0.0

    def drop_unwritable(self) -> PluginError | None:
        """Drop what plugins have given and no record can hold, so that there is a record in any case.

        Returns:
            What is wrong with the first; None: nothing is.
        """
        first: PluginError | None = None
        checks: tuple[tuple[dict[str, Any], Callable[[str, Any], None]], ...] = (
            (self.guards, _check_guard),
            (self.notes, _check_note),
            (self.learned, _check_note),
        )
        for values, check in checks:
            for name, value in list(values.items()):
                try:
                    check(name, value)
                except PluginError as wrong:
                    del values[name]
                    first = first or wrong
        return first


def _check_guard(name: str, value: Any) -> None:
    check_kind(value, Guard, what=f"the guard `{name}`", hint="Guard.check(passed, detail) makes one.")


def _check_note(name: str, value: Any) -> None:
    check_plain(value, what=f"the notes `{name}`")
