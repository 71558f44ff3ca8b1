"""What a task's runs are compared by, where that is not the stored examples: see ``compared_units`` of a task."""

from __future__ import annotations

from pathlib import Path

from peftlab.core.errors import UserError, first_line
from peftlab.core.plugins import OWN
from peftlab.core.report_parts import Units
from peftlab.core.task import TASKS
from peftlab.packs.runs import read_run_predictions
from peftlab.report.plugin_faults import fault_in_words


def read_units(folder: Path, task: str, split: str) -> Units | None:
    """The units of a run's split; None where the task compares by examples, or the folder has no predictions.

    Raises:
        UserError: The file is damaged, or a plugin's task has failed.
    """
    import pyarrow as pa

    if task not in TASKS:  # of a package that is not installed here
        return None
    try:
        return TASKS[task].compared_units(lambda: read_scores(folder, split))
    except UserError:
        raise
    except Exception as error:
        if TASKS[task].__module__.partition(".")[0] != OWN:  # says nothing of the file
            raise UserError(fault_in_words(error, TASKS[task].__module__)) from None
        if not isinstance(error, (pa.ArrowException, ValueError, TypeError)):
            raise
        raise UserError(f"the predictions are damaged: {first_line(error)}", where=str(folder)) from None


def read_scores(folder: Path, split: str) -> list[list[float]]:
    """The stored scores of a split's predictions, a list an example; none where the folder has no predictions of it."""
    import pyarrow.compute as pc

    table = read_run_predictions(folder, ["split", "scores"])
    if table is None:
        return []
    scores: list[list[float]] = table.filter(pc.equal(table["split"], split))["scores"].to_pylist()
    return scores
