"""The splits of a recipe, and what a person is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.errors import DataError, UserError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.data.row_rules import RowRules
from peftlab.data.splits import LoadedData, load_splits, summarise_splits
from peftlab.preparation.earlier_rows import with_earlier_rows, without_earlier_rows
from peftlab.preparation.earlier_run import open_earlier
from peftlab.preparation.teachers import open_teachers, without_rows_of_teachers
from peftlab.recipe.schema import Recipe


def load_data(
    recipe: Recipe,
    *,
    folder: Path | None = None,
    offline: bool,
    report: ProgressCallback,
    more_columns: Sequence[str] = (),
) -> LoadedData:
    """The splits, from the source or made by the task; with rows of the runs that it goes on from.

    Args:
        recipe: Its data and its task.
        folder: Relative paths start here (the recipe's folder).
        offline: Allow no network.
        report: Is told of downloads, and of earlier rows that cannot be had where none of them is needed.
        more_columns: To read beside the task's; where the source lacks one, it is None in every row.

    Raises:
        UserError: The data cannot be had, or cannot be used.
    """
    own = _load_own(recipe, folder=folder, offline=offline, report=report, more_columns=more_columns)
    run, settings = open_earlier(recipe), recipe.continues
    if run is None or settings is None:
        return own
    try:
        earlier = _history(run, offline=offline, report=report, more_columns=more_columns)
    except UserError as error:
        if settings.replay:
            error.hint = f"{error.hint or ''} Without these rows, set continues.replay to 0.".strip()
            raise
        why = f"what is forgotten is not measured, since the earlier rows cannot be read: {error.message}"
        report(why)
        notes = {**own.summary.notes, "earlier_rows": why}
        return replace(own, summary=own.summary.model_copy(update={"notes": notes}))
    fresh = without_earlier_rows(own, earlier, recipe.task)
    return _with_earlier(recipe, fresh, earlier, replay=settings.replay)


def _history(
    run: SavedRun, *, offline: bool, report: ProgressCallback, more_columns: Sequence[str]
) -> list[LoadedData]:
    """The new rows of a run and of those before it, the oldest first, as these runs had them.

    Raises:
        UserError: They cannot be read, or are others by now.
    """
    recipe = run.recipe
    own = _load_own(recipe, folder=None, offline=offline, report=report, more_columns=more_columns)
    before, whole = open_earlier(recipe), own
    earlier: list[LoadedData] = []
    if before is not None and recipe.continues is not None:
        earlier = _history(before, offline=offline, report=report, more_columns=more_columns)
        own = without_earlier_rows(own, earlier, recipe.task)
        whole = _with_earlier(recipe, own, earlier, replay=recipe.continues.replay)
    known = run.record.data
    # Columns that were read in addition change the fingerprint, so the rows are compared by their numbers then.
    same = known is not None and (
        known.rows == whole.summary.rows if more_columns else known.fingerprint == whole.summary.fingerprint
    )
    if not same:
        raise DataError(
            "the data have changed since the earlier run, so its test rows may be rows that it has learned",
            where=str(run.folder),
            hint="Bring the data back as they were.",
        )
    return [*earlier, own]


def _with_earlier(recipe: Recipe, own: LoadedData, earlier: Sequence[LoadedData], *, replay: float) -> LoadedData:
    named = None if recipe.data is None else recipe.data.split_seed
    split_seed = recipe.seed if named is None else named
    return with_earlier_rows(own, earlier, recipe.task, replay=replay, seed=recipe.seed, split_seed=split_seed)


def _load_own(
    recipe: Recipe, *, folder: Path | None, offline: bool, report: ProgressCallback, more_columns: Sequence[str]
) -> LoadedData:
    """The splits of the recipe's own source; arguments are those of :func:`load_data`."""
    task = recipe.task
    if recipe.data is None:
        splits = task.make_splits(recipe.seed)
        return LoadedData(splits, summarise_splits(splits))
    read = [name for each in recipe.training.regularizers for name in each.source_columns()]
    more_columns = tuple(dict.fromkeys([*more_columns, *read]))
    rules = RowRules(
        text_columns=task.text_columns(),
        label_columns=task.label_columns(),
        strata=task.strata,
        arrange=lambda split: task.tidy_rows(task.arrange(split)),
        source_columns=(*task.source_columns(), *more_columns),
        optional_columns=(*task.optional_columns(), *more_columns),
        beside=[name for name in more_columns if name not in task.source_columns()],
        nullable_columns=task.nullable_columns(),
        number_columns=task.number_columns(),
        image_columns=task.image_columns(),
        classes=task.classes,
        compared_texts=task.compared_texts,
        labels_are_texts=task.labels_are_texts,
        told_apart_by=task.told_apart_by(),
    )
    data = load_splits(recipe.data, rules, seed=recipe.seed, folder=folder, offline=offline, report=report)
    teachers = open_teachers(recipe)
    if not teachers:
        return data
    theirs = []
    for run in teachers:
        found = load_data(run.recipe, offline=offline, report=report)
        if run.record.data is None or run.record.data.fingerprint != found.summary.fingerprint:
            raise DataError(
                "the data of a teacher have changed since it was tuned, so rows that test this run may be rows that "
                "the teacher has learned",
                where=str(run.folder),
                hint="Bring the data back as they were, or tune the teacher anew.",
            )
        theirs.append(found.splits)
    return without_rows_of_teachers(data, task, theirs)


def name_lost_class(data: LoadedData, split: Split, recipe: Recipe) -> None:
    """Say what has taken the training rows of a class that a split still has.

    Raises:
        DataError: Naming the class and the key.
    """
    found = sorted(set(data.lost_classes) & set(recipe.task.classes(split))) if split.name != "train" else []
    if found:
        raise DataError(
            f"the {split.name} split has the class {found[0]!r}, which is in the source's training rows too, but "
            f"{data.lost_classes[found[0]]} leaves none of them",
            where=split.source,
            hint="Keep more training rows, or leave this class out of the data.",
        )


def with_notices(data: LoadedData, recipe: Recipe, labels: tuple[str, ...], say: ProgressCallback) -> LoadedData:
    """Tell and note how the labels were understood."""
    notices = recipe.task.notices(data.splits, labels)
    if data.lost_classes:
        shown = ", ".join(f"{name!r} ({key})" for name, key in sorted(data.lost_classes.items())[:5])
        notices["classes_lost"] = f"no training row is left of {shown}: the model cannot learn it"
    for notice in notices.values():
        say(notice)
    summary = data.summary.model_copy(update={"notes": {**data.summary.notes, **notices}})
    return replace(data, summary=summary)
