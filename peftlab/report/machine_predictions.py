"""What runs of the task ``turing_machine`` predicted: whole runs of machines, put together from their steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from peftlab.core.errors import UserError
from peftlab.packs.runs import read_run_predictions
from peftlab.report.predictions import Predictions
from peftlab.statistics.machine_runs import MachineRun, machine_runs

TASK = "turing_machine"


def read_machine_runs(folder: Path, split: str) -> list[MachineRun]:
    """The runs of a split by number; none where the folder has no predictions of it.

    Raises:
        UserError: The file is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = read_run_predictions(folder, ["split", "scores"])
    if table is None:
        return []
    try:
        return machine_runs(table.filter(pc.equal(table["split"], split))["scores"].to_pylist())
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(f"the predictions are damaged: {str(error).splitlines()[0]}", where=str(folder)) from None


def runs_as_predictions(runs: list[MachineRun]) -> Predictions:
    """Runs as examples with numbers: how many steps there are, and how many were made before the first error."""
    return Predictions(
        np.array([run.number for run in runs], dtype=np.int64),
        np.array([len(run.right) for run in runs], dtype=np.float64),
        np.array([run.survived for run in runs], dtype=np.float64),
    )
