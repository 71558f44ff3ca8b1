"""What the tasks add to reports, drawn: their own figures and tables, and the units that they compare by.

The report knows no task: it asks the class that the record's task name stands for, by the hooks of
:class:`peftlab.core.task_answers.TaskAnswers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peftlab.core.errors import UserError, first_line
from peftlab.core.plugins import OWN
from peftlab.core.report_parts import ComparedMethod, ReportPart
from peftlab.core.task import TASKS
from peftlab.report.comparison import Comparison
from peftlab.report.entry import Entry
from peftlab.report.figure_set import Figure, lines_figure
from peftlab.report.plugin_faults import fault_in_words
from peftlab.report.table import Table
from peftlab.report.units import read_scores


@dataclass(frozen=True)
class TaskPart:
    """One part that a task adds, as the page shows it; without a figure where there is nothing to draw."""

    heading: str
    figure: Figure | None
    table: Table


def task_parts(comparison: Comparison, most: int) -> list[TaskPart]:
    """The parts that the comparison's task adds, for the methods with the best means.

    Where the task is a plugin's and fails, the one part says so.

    Raises:
        UserError: The predictions of a run are damaged.
    """
    import pyarrow as pa

    if comparison.key.task not in TASKS:  # of a package that is not installed here
        return []
    task = TASKS[comparison.key.task]
    try:
        methods = [
            ComparedMethod(number, method.label, method.entries[0].settings, _scores_of(method.entries))
            for number, method in enumerate(comparison.methods[:most])
        ]
        return [_drawn(part, len(comparison.methods)) for part in task.report_parts(methods)]
    except UserError:
        raise
    except Exception as error:
        if task.__module__.partition(".")[0] != OWN:  # says nothing of the file
            return [_failed(fault_in_words(error, task.__module__))]
        if not isinstance(error, (pa.ArrowException, ValueError, TypeError)):
            raise
        where = str(comparison.methods[0].entries[0].path)
        raise UserError(f"the predictions are damaged: {first_line(error)}", where=where) from None


def task_tables(comparison: Comparison) -> list[Table]:
    """The tables alone, for all methods.

    Raises:
        UserError: The predictions of a run are damaged.
    """
    return [part.table for part in task_parts(comparison, len(comparison.methods))]


def _drawn(part: ReportPart, methods: int) -> TaskPart:
    table = Table(part.table_title, list(part.columns), [[str(cell) for cell in row] for row in part.rows])
    return TaskPart(part.heading, lines_figure(part, methods) if part.lines else None, table)


def _failed(fault: str) -> TaskPart:
    return TaskPart("Figures of the task", None, Table("Figures of the task", ["There are none"], [[fault]]))


def _scores_of(entries: Sequence[Entry]) -> Callable[[str], list[list[list[float]]]]:
    return lambda split: [read_scores(entry.path, split) for entry in entries]
