"""Copies of rows that need more than the rows: models that change texts, or a teacher that says which ones to keep."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from peftlab.core.augmentation import Augmentation, ModelAugmentation
from peftlab.core.config import replace_config
from peftlab.core.errors import UnsupportedError
from peftlab.core.reporter import Reporter
from peftlab.core.splits import Split
from peftlab.data.augmenting import Agrees, Change, change_each, join_rows
from peftlab.preparation.augment import augmented, is_made_at_once, source_rows
from peftlab.preparation.augmentation_models import CachedChanges, load_models
from peftlab.preparation.check import CheckedRecipe
from peftlab.run.ask_saved_run import ask
from peftlab.run.run_folder import RunFolder
from peftlab.run.self_training import TEACHERS
from peftlab.run.side_runs import Execute, plain, run_beside

if TYPE_CHECKING:
    import torch

    from peftlab.training.world import World

FILTER = "augmentation"
"""The folder of the teacher that says which copies are kept."""


def with_made_copies(
    checked: CheckedRecipe,
    folder: Path,
    execute: Execute,
    *,
    device: torch.device,
    offline: bool,
    reporter: Reporter,
    world: World,
) -> CheckedRecipe:
    """The recipe with the copies that could not be made when the data was loaded.

    Args:
        checked: With the others.
        folder: The run's.
        execute: Runs a teacher.
        device: Where models are asked.
        offline: Allow no network.
        reporter: Tells a person.
        world: The processes that train together; the first one asks the models.

    Raises:
        RunFailedError: The teacher has failed, or was stopped.
        UnsupportedError: A teacher is needed, and there are several processes.
    """
    data = checked.recipe.data
    waiting = [] if data is None else [each for each in data.augmentation if not is_made_at_once(each)]
    if not waiting:
        return checked
    agrees = None
    if any(each.keep_if for each in waiting):
        if world.size > 1:
            raise UnsupportedError(
                "the teacher of `keep_if` is tuned in one process",
                where="data.augmentation",
                hint="Leave --processes out, or keep_if.",
            )
        place = RunFolder(folder / TEACHERS / FILTER)
        name = "a teacher, which says which changed texts are kept"
        run_beside(as_teacher(checked), place, execute, reporter=reporter, name=name)
        agrees = _agreement(place.path, device=device, offline=offline)
    made = checked.data
    for each in waiting:
        change: Change = change_each
        if isinstance(each, ModelAugmentation):
            reporter.say(f"changing texts by {each.registered_name}")
            change = _changing(each, checked, device=device, offline=offline, world=world)
        made = augmented(made, checked.recipe, wanted=_is(each), change=change, agrees=agrees)
        gc.collect()
    return replace(checked, data=made)


def as_teacher(checked: CheckedRecipe) -> CheckedRecipe:
    """The same recipe on the labelled rows of the source alone."""
    checked = plain(checked)
    recipe, data = checked.recipe, checked.data
    regularizers = [each for each in recipe.training.regularizers if not each.needs_unlabeled]
    training = replace_config(recipe.training, regularizers=regularizers)
    section = None if recipe.data is None else replace_config(recipe.data, augmentation=[])
    notes = {name: value for name, value in data.summary.notes.items() if not name.startswith("augmented_")}
    summary = data.summary.model_copy(update={"notes": notes, "added_rows_fingerprint": None})
    splits = {**data.splits, "train": source_rows(data)}
    return replace(
        checked,
        recipe=replace_config(recipe, training=training, data=section),
        data=replace(data, splits=splits, summary=summary, unlabeled_copies=None),
    )


def _is(one: Augmentation) -> Callable[[Augmentation], bool]:
    return lambda other: other is one


def _agreement(teacher: Path, *, device: torch.device, offline: bool) -> Agrees:
    """Whether the teacher gives a row and its copy the same class."""

    def agrees(rows: Split, copies: Split) -> list[bool]:
        said = [each.prediction for each in ask(teacher, join_rows([rows, copies]), device=device, offline=offline)]
        return [one == other for one, other in zip(said[: len(rows)], said[len(rows) :], strict=True)]

    return agrees


def _changing(
    augmentation: ModelAugmentation, checked: CheckedRecipe, *, device: torch.device, offline: bool, world: World
) -> Change:
    """Changes texts by the models, which the first process alone loads."""
    loaded: list[CachedChanges] = []

    def change(_: Augmentation, texts: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        def compute() -> list[str]:
            if not loaded:
                models = load_models(
                    augmentation,
                    base=checked.model_location,
                    config=checked.recipe.model,
                    device=device,
                    offline=offline,
                )
                loaded.append(CachedChanges(augmentation, models))
            return loaded[0].change(texts, randoms)

        return world.first(compute)

    return change
