"""Whether runs answer the same question, so that their answers can be put together."""

from __future__ import annotations

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.errors import UnsupportedError
from peftlab.core.task import Task


def check_same_question(run: SavedRun, task: Task, labels: tuple[str, ...] | None, *, who: str, hint: str) -> None:
    """Refuse a run with another task, other columns or other classes.

    Args:
        run: To check.
        task: That it must have.
        labels: Names of the classes that it must have; None: they are not known yet.
        who: Has these.
        hint: How to mend it.

    Raises:
        UnsupportedError: Naming the difference.
    """
    own = run.recipe.task
    for what, found, wanted in (
        ("task", own.registered_name, task.registered_name),
        ("text columns", own.text_columns(), task.text_columns()),
        ("label columns", own.label_columns(), task.label_columns()),
        ("classes", run.labels, run.labels if labels is None else labels),
    ):
        if found != wanted:
            raise UnsupportedError(
                f"its {what} {'are' if what.endswith('s') else 'is'} {_shown(found)}, and {who} has {_shown(wanted)}",
                where=str(run.folder),
                hint=hint,
            )


def _shown(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
