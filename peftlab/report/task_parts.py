"""What the tasks add to reports, drawn: their own figures and tables, and the units that they compare by.

The report knows no task: it asks the class that the record's task name stands for, by the hooks of
:class:`peftlab.core.task_answers.TaskAnswers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peftlab.core.errors import UserError, first_line
from peftlab.core.plugins import fault_of
from peftlab.core.report_parts import ComparedMethod, ReportPart
from peftlab.core.task import TASKS
from peftlab.report.comparison import Comparison
from peftlab.report.entry import Entry
from peftlab.report.figure_set import Figure, lines_figure
from peftlab.report.table import Table
from peftlab.report.units import read_scores


@dataclass(frozen=True)
class TaskPart:
    """One part that a task adds, as the page shows it."""

    heading: str
    figure: Figure
    table: Table


def task_parts(comparison: Comparison, most: int) -> list[TaskPart]:
    """The parts that the comparison's task adds, for the methods with the best means.

    Raises:
        UserError: The predictions of a run are damaged.
    """
    return [
        TaskPart(part.heading, lines_figure(part, len(comparison.methods)), _table(part))
        for part in _parts(comparison, most)
    ]


def task_tables(comparison: Comparison) -> list[Table]:
    """The tables alone, for all methods.

    Raises:
        UserError: The predictions of a run are damaged.
    """
    return [_table(part) for part in _parts(comparison, len(comparison.methods))]


def _parts(comparison: Comparison, most: int) -> Sequence[ReportPart]:
    import pyarrow as pa

    if comparison.key.task not in TASKS:  # of a package that is not installed here
        return ()
    methods = []
    for number, method in enumerate(comparison.methods[:most]):
        entries = method.entries
        methods.append(ComparedMethod(number, method.label, entries[0].settings, _scores_of(entries)))
    try:
        return TASKS[comparison.key.task].report_parts(methods)
    except (pa.ArrowException, ValueError, TypeError) as error:
        if fault_of(error) is not None:  # what a plugin raises says nothing of the file
            raise
        where = str(comparison.methods[0].entries[0].path)
        raise UserError(f"the predictions are damaged: {first_line(error)}", where=where) from None


def _scores_of(entries: Sequence[Entry]) -> Callable[[str], list[list[list[float]]]]:
    return lambda split: [read_scores(entry.path, split) for entry in entries]


def _table(part: ReportPart) -> Table:
    return Table(part.table_title, list(part.columns), [list(row) for row in part.rows])
