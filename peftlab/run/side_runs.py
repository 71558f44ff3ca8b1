"""Runs that a run needs before it begins, in folders of its own: teachers, and folds that look for wrong labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from peftlab.core.config import replace_config
from peftlab.core.errors import RunFailedError, UserError
from peftlab.core.record import RunRecord
from peftlab.core.reporter import Reporter
from peftlab.preparation.check import CheckedRecipe
from peftlab.run.run_folder import RunFolder
from peftlab.training.interrupts import CancelledError

Execute = Callable[[CheckedRecipe, RunFolder], RunRecord]
"""Runs a checked recipe in a folder."""


def run_beside(
    checked: CheckedRecipe, place: RunFolder, execute: Execute, *, reporter: Reporter, name: str
) -> RunRecord:
    """Run a recipe in a folder, unless it has ended there.

    Args:
        checked: What to run.
        place: Its folder.
        execute: Runs it.
        reporter: Tells a person.
        name: What the run is for, for messages.

    Raises:
        RunFailedError: It has failed, or was stopped.
        UserError: It has ended there on other data.
    """
    finished = place.finished_record()
    if finished is not None:
        _refuse_other_data(finished, checked, place)
        return finished
    place.path.mkdir(parents=True, exist_ok=True)
    place.keep_recipe(checked.recipe)
    reporter.say(name)
    record = execute(checked, place)
    if record.status == "cancelled":
        raise CancelledError("stopped by the user")
    if record.status != "success":
        raise RunFailedError(f"{name}: {record.error}", where=str(place.path))
    return record


def _refuse_other_data(finished: RunRecord, checked: CheckedRecipe, place: RunFolder) -> None:
    """What a run has learned of a table says nothing of another one that has taken its place."""
    if finished.data is not None and finished.data.fingerprint != checked.data.summary.fingerprint:
        raise UserError(
            "the run cannot be resumed here: its data have changed since this part of it ended",
            where=str(place.path),
            hint="Start the run in a new folder.",
        )


def plain(checked: CheckedRecipe, **sections: Any) -> CheckedRecipe:
    """The recipe without what needs further runs, and without measurements."""
    recipe = checked.recipe
    training = replace_config(recipe.training, self_training=None)
    data = None if recipe.data is None else replace_config(recipe.data, prune=None)
    return replace(checked, recipe=replace_config(recipe, training=training, data=data, measure=False, **sections))
