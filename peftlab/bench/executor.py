"""Where the runs of a suite are executed: what an executor is.

There are two: :class:`peftlab.bench.worker.Worker` starts processes on this machine, and
:class:`peftlab.bench.ray_executor.RayExecutor` gives the runs to a Ray cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from peftlab.core.record import RunRecord
from peftlab.recipe.schema import Recipe


@dataclass(frozen=True)
class Finished:
    """A run that has ended.

    Args:
        record: Its own, or one that says how its process ended.
        wall_seconds: From the start of the process to its end.
    """

    record: RunRecord
    wall_seconds: float


class Executor(Protocol):
    """Executes runs; several threads may use one executor, each for one run at a time."""

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` has been called."""

    def run(self, recipe: Recipe, folder: Path) -> Finished:
        """Execute a run to its end, or go on with what an earlier call has left of it.

        Args:
            recipe: Settled: with every value filled in.
            folder: The run's; it holds the record afterwards, whatever has become of the run.
        """

    def stop(self) -> None:
        """End all runs in good order: they can be resumed."""
