"""One run as a report sees it, whatever wrote it: peftlab's own record, or another project's result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftlab.core.record import Earlier, Guard, Memory, Routed, failed_guards

OWN = "peftlab"
"""The origin of a record that peftlab wrote."""


COLLAPSED = "answers_vary"
"""The guard that a run fails whose answers are all alike."""


@dataclass(frozen=True)
class Excluded:
    """Something that was found and is not compared, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Costs:
    """What a run cost. None where it was not measured. Units are in the names."""

    peak_memory_bytes: float | None = None
    tokens_per_second: float | None = None
    train_seconds: float | None = None
    total_seconds: float | None = None
    trainable_parameters: float | None = None
    artifact_bytes: float | None = None


@dataclass(frozen=True)
class History:
    """How a run learned.

    Args:
        loss: Step and training loss.
        validation: Step and the metrics of the validation split.
    """

    loss: Sequence[tuple[float, float]] = ()
    validation: Sequence[tuple[float, Mapping[str, float]]] = ()


@dataclass(frozen=True)
class Entry:
    """One run.

    Args:
        name: Of the cell, without the seed.
        seed: Of the run.
        path: The run's folder, or the result file.
        shown_path: The path as the report prints it.
        status: ``success``, or why not.
        error: What went wrong.
        task: The task's type.
        model: The base model.
        data: What the data is called.
        fingerprint: Of the data; runs with different ones are never compared.
        metric: That the run itself was judged by.
        scores: Split, then metric.
        rows: Examples of each split.
        settings: The recipe without name and seed, flat: ``training.epochs`` → 2.
        draw_seed: By which its training rows were drawn, where that is no part of the splits.
        costs: What it cost.
        memory: By category.
        guards: The checks of the run.
        environment: Versions and device, flat.
        started_at: ISO 8601.
        suite: The folder of the suite that the run is a cell of.
        earlier: The run that it went on from, with the scores of that one.
        routed: Its scores beside the runs before it, with a router that chooses among them.
        history: Where it does not come from ``metrics.jsonl``.
        command: What reproduces the run.
        origin: Who wrote the result.
    """

    name: str
    seed: int
    path: Path
    shown_path: str
    status: str
    error: str | None
    task: str
    model: str
    data: str
    fingerprint: str
    metric: str
    scores: Mapping[str, Mapping[str, float]]
    rows: Mapping[str, int]
    settings: Mapping[str, Any]
    costs: Costs
    memory: Memory | None = None
    labels: Sequence[str] = ()
    guards: Mapping[str, Guard] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    started_at: str = ""
    suite: Path | None = None
    earlier: Earlier | None = None
    routed: Routed | None = None
    history: History | None = None
    command: str = ""
    origin: str = OWN
    draw_seed: int | None = None

    @property
    def method(self) -> str:
        """The name of the cell's method: a suite writes the values of its axes behind it."""
        return self.name.partition("--")[0] if self.suite else self.name

    @property
    def axis(self) -> str:
        """The values of the suite's axes, as the cell's name has them."""
        return self.name.partition("--")[2] if self.suite else ""

    @property
    def set_name(self) -> str | None:
        """The set that it belongs to: its suite, or the folder of published results."""
        folder = self.suite or (None if self.origin == OWN else self.path.parent)
        return folder.name if folder else None

    @property
    def failed_guards(self) -> list[str]:
        """The guards that failed and are not waived."""
        return failed_guards(self.guards)

    @property
    def only_collapsed(self) -> bool:
        """Whether all that is wrong is that it answers everything alike.

        Such a run is no success, and nobody should use it. But it is a result of its method: a comparison that left it
        out would tell of the seeds that went well.
        """
        return self.status == "failed" and self.failed_guards == [COLLAPSED]

    @property
    def has_scores(self) -> bool:
        """Whether its scores are a result of its method."""
        return self.status == "success" or self.only_collapsed

    @property
    def waived_guards(self) -> list[str]:
        """The guards that failed although the recipe accepts it."""
        return [name for name, guard in self.guards.items() if guard.status == "failed" and guard.waived]


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; everything else is a value."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat
