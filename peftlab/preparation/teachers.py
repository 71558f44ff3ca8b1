"""The runs that a recipe learns from (``training.distillation``), and the rows that must not meet them.

A student learns what its teachers know. So held-out rows that a teacher was trained on are left out, and training rows
that a teacher is tested on, too, with texts without labels that are nearly the same: else a comparison of the two would
be unfair to one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peftlab.artifact.same_question import check_same_question
from peftlab.artifact.saved_ensemble import SavedEnsemble
from peftlab.artifact.saved_folder import find_folder, is_ensemble
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.data.splits import LoadedData
from peftlab.data.unlabeled import without_near
from peftlab.preparation.overlap import without_rows_of
from peftlab.recipe.schema import Recipe

SEEN_BY = {"validation": ("train",), "test": ("train", "validation")}
"""Splits of another run whose rows may not be in a split: those that it was trained on, or chosen by."""
TESTED_ON = {"train": ("test",)}
LEFT_OUT = {
    "train": "train_rows_that_test_teachers",
    "validation": "validation_rows_that_trained_teachers",
    "test": "test_rows_that_trained_teachers",
}


def open_teachers(recipe: Recipe) -> list[SavedRun]:
    """The runs; of an ensemble its members.

    Raises:
        UserError: There is no finished run in a folder.
    """
    settings = recipe.training.distillation
    found: list[SavedRun] = []
    for address in () if settings is None else settings.teachers:
        folder = find_folder(Path(address).expanduser())
        found += SavedEnsemble.open(folder).members if is_ensemble(folder) else [SavedRun.open(folder)]
    return found


def check_teachers(recipe: Recipe, labels: tuple[str, ...] | None = None) -> None:
    """Refuse teachers that answer another question than the recipe's; its classes are known once the data are.

    Raises:
        UnsupportedError: Naming the difference.
    """
    for run in open_teachers(recipe):
        hint = "A teacher answers the question that the recipe asks: with the same task, columns and classes."
        check_same_question(run, recipe.task, labels, who="the recipe", hint=hint)


def without_rows_of_teachers(data: LoadedData, task: Task, teachers: Sequence[Mapping[str, Split]]) -> LoadedData:
    """The data of a student without the rows that must not meet its teachers, which are counted.

    Args:
        data: Of the recipe.
        task: Of the recipe.
        teachers: The splits of each.

    Raises:
        DataError: No row of a split is left.
    """
    splits, counts = dict(data.splits), dict[str, Any]()

    def without(split: Split, name: str) -> Split:
        theirs = [own[other] for own in teachers for other in (TESTED_ON | SEEN_BY)[name] if other in own]
        return without_rows_of(split, theirs, task)

    for name in (*TESTED_ON, *SEEN_BY):
        if name not in splits:
            continue
        splits[name] = without(data.splits[name], name)
        if not len(splits[name]):
            raise DataError(
                f"no {name} row is left: "
                + ("teachers are tested on" if name == "train" else "teachers have learned")
                + " all of them",
                where="training.distillation",
                hint="Cut the data as the teachers did: give data.split_seed the seed of theirs.",
            )
        if len(splits[name]) < len(data.splits[name]):
            counts[LEFT_OUT[name]] = len(data.splits[name]) - len(splits[name])
    drawn_from = None if data.drawn_from is None else without(data.drawn_from, "train")
    unlabeled = data.unlabeled
    if unlabeled is not None:
        tested_on = [own[name] for own in teachers for name in TESTED_ON["train"] if name in own]
        unlabeled, lost = without_near(unlabeled, tested_on, list(unlabeled.columns))
        if not len(unlabeled):
            raise DataError("no text without a label is left: a teacher is tested on all", where=unlabeled.source)
        counts |= {"unlabeled_rows_that_test_teachers": lost, "unlabeled_rows": len(unlabeled)}
    data = replace(data, drawn_from=drawn_from, unlabeled=unlabeled)
    summary = data.summary.model_copy(
        update={
            "fingerprint": data.fingerprint_of(splits),
            "rows": {name: len(split) for name, split in splits.items()},
            "notes": {**data.summary.notes, **counts},
        }
    )
    return replace(data, splits=splits, summary=summary)
