"""``run_recipe``: a recipe becomes a run, and every ending of it becomes a record."""

from __future__ import annotations

import contextlib
import datetime
import os
import reprlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.callback import Callback, CallbackList
from peftlab.core.config import Document, replace_config
from peftlab.core.destination import inputs_of_recipe
from peftlab.core.devices import AUTO, check_device_name, choose_device
from peftlab.core.errors import ConfigError, UserError
from peftlab.core.generators import kept_generators
from peftlab.core.quiet import quiet_transformers
from peftlab.core.record import ADAPTER, MODEL, RECIPE_NAME, RunRecord, write_record
from peftlab.core.reporter import Reporter, Silent
from peftlab.preparation.check import CheckedRecipe, check_recipe
from peftlab.preparation.places import at_place
from peftlab.recipe.schema import Recipe
from peftlab.run.card import CARD_NAME, write_card
from peftlab.run.given_base import given_base
from peftlab.run.processes import check_same_work, own_folder
from peftlab.run.run_folder import RunFolder, check_output_dir, choose_folder, open_run_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from peftlab.run.learning_curves import LearningCurves
    from peftlab.training.world import World


@dataclass(frozen=True)
class RunResult:
    """A run that has ended, well or badly.

    Args:
        record: What it found.
        folder: Where it left everything.
    """

    record: RunRecord
    folder: Path

    def plot(self) -> LearningCurves:
        """Its training loss and its validation score, by step; a notebook shows the figure.

        Raises:
            UserError: It has logged no step.
        """
        from peftlab.run.learning_curves import draw_learning_curves

        return draw_learning_curves(self.folder, metric=self.record.recipe["evaluation"]["metric"])


def run_recipe(
    recipe: Recipe,
    document: Document | None = None,
    *,
    output_dir: Path | str | None = None,
    resume: bool = False,
    offline: bool = False,
    device: str = AUTO,
    reporter: Reporter | None = None,
    callbacks: Sequence[Callback] = (),
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> RunResult:
    """Tune, evaluate, record.

    Where a launcher such as torchrun has started several processes, all of them call this, and do the steps together.
    Callbacks and the reporter are the first one's.

    Args:
        recipe: From :func:`peftlab.load_recipe`, or made in Python.
        document: Where it was read from, for the places in messages.
        output_dir: The run's folder; None: ``runs/<name>-<UTC time>``.
        resume: Take up what is there.
        offline: Allow no network.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reporter: Tells a person what is going on; None: nothing is told. ``peftlab.PlainReporter()`` writes lines to
            standard error.
        callbacks: Are told of steps, evaluations and the end, and may end the training; see
            :class:`peftlab.core.callback.Callback`.
        model: A transformers model to tune. It is only read, and stays as it is: what trains is loaded from the
            checkpoint that it came from, where that holds the same weights, else from a copy in the run's folder. The
            recipe's ``model.path`` is ``python:model``, or that checkpoint.
        tokenizer: The model's; None: that of its checkpoint.

    Returns:
        The record and the folder. A run that failed has a record too: look at its ``status``.

    Raises:
        UserError: The input is wrong; no run has begun.
        CallbackError: ``on_end`` of a callback has failed; the run has ended, and its record is on disk.
    """
    _check_recipe_is_one(recipe)
    _check_arguments(document=document, output_dir=output_dir, device=device, reporter=reporter)
    document = document or Document(source=recipe.name, values=recipe.model_dump(mode="json"))
    listeners = CallbackList(callbacks)
    check_device_name(device)
    from peftlab.training.joining import joined_world, own_device

    with (
        joined_world(device) as world,
        own_folder(world, None if output_dir is None else Path(output_dir)) as own,
        quiet_transformers(),
        kept_generators(),  # the program's own numbers do not become those of the recipe's seed
    ):
        return _run_in_world(
            recipe,
            document,
            world,
            output_dir=own,
            resume=resume and world.is_first,
            offline=offline,
            device=own_device(device),
            reporter=reporter if reporter is not None and world.is_first else Silent(),
            listeners=listeners if world.is_first else CallbackList(),
            model=model,
            tokenizer=tokenizer,
        )


def _run_in_world(
    recipe: Recipe,
    document: Document,
    world: World,
    *,
    output_dir: Path | None,
    resume: bool,
    offline: bool,
    device: str,
    reporter: Reporter,
    listeners: CallbackList,
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
) -> RunResult:
    """One process's part of a run; arguments as for :func:`run_recipe`."""
    check_output_dir(output_dir, resume=resume, inputs=inputs_of_recipe(recipe.model_dump(mode="json")))
    if output_dir is None and (resume or model is not None):
        output_dir = choose_folder(recipe.name, resume=resume)
    with contextlib.ExitStack() as stack:
        goes_on = resume and output_dir is not None and (output_dir / RECIPE_NAME).exists()
        if goes_on and output_dir is not None:  # others see from the first that the run goes on
            stack.enter_context(RunFolder(output_dir).locked())
        with given_base(recipe, model, tokenizer, document=document, output_dir=output_dir, say=reporter.say) as base:
            checked = check_recipe(base.recipe, document, offline=offline, reporter=reporter)
            check_same_work(world, checked if base.copied is None else replace(checked, recipe=recipe))
            folder = open_run_folder(recipe.name, output_dir, resume=resume)
            checked = base.moved_into(folder, checked)
        if not goes_on:
            stack.enter_context(folder.locked())
        finished = world.first(folder.finished_record)
        if resume and not folder.has_begun:
            reporter.say(f"there is no checkpoint in {folder.path}: the run starts from the beginning")
        checked = replace(checked, recipe=_with_start_time(checked, folder, world))
        folder.keep_recipe(checked.recipe)
        place = world.first(lambda: folder.path)
        if finished is not None:
            reporter.say("this run has already finished; its record is kept")
            world.first(lambda: _complete(finished, folder, checked))
            return RunResult(finished, place)
        try:
            with at_place(document, ("method",)):
                record = _execute(
                    checked, folder, world, offline=offline, device_name=device, reporter=reporter, callbacks=listeners
                )
        except UserError:
            folder.discard_unused()
            raise
    listeners.on_end(record)
    return RunResult(record, place)


def _check_arguments(**given: Any) -> None:
    """Refuse values of another type; a program that is not type-checked may mix them up."""
    wanted: dict[str, tuple[tuple[type, ...], str]] = {
        "document": ((Document,), "what load_recipe returns beside the recipe; a folder is output_dir=…"),
        "output_dir": ((str, Path), "the path of a folder"),
        "device": ((str,), "auto, cpu, cuda or cuda:N"),
        "reporter": ((Reporter,), "an object such as peftlab.PlainReporter()"),
    }
    for name, value in given.items():
        kinds, needed = wanted[name]
        if value is not None and (isinstance(value, type) or not isinstance(value, kinds)):
            raise ConfigError(f"this is {reprlib.repr(value)}", where=name, hint=f"It takes {needed}.")


def _check_recipe_is_one(recipe: Any) -> None:
    if isinstance(recipe, Recipe):
        return
    hint = "peftlab.Recipe.from_dict(…) makes one of a dict."
    if isinstance(recipe, tuple):
        hint = "What load_recipe returns are two arguments: run_recipe(*load_recipe(path))."
    elif isinstance(recipe, str | Path):
        hint = "Read the file first: run_recipe(*load_recipe(path))."
    raise ConfigError(f"a Recipe is needed, not a {type(recipe).__name__}", where="recipe", hint=hint)


def _with_start_time(checked: CheckedRecipe, folder: RunFolder, world: World) -> Recipe:
    """The recipe with the time that the model reads, if it does: when the run began, also if it is resumed later."""
    now, earlier = world.first(
        lambda: (datetime.datetime.now(datetime.UTC).replace(microsecond=0, tzinfo=None), folder.earlier_recipe())
    )
    task = checked.recipe.task.at_time(now, checked.facts.tokenizer, None if earlier is None else earlier.task)
    return replace_config(checked.recipe, task=task)


def _execute(
    checked: CheckedRecipe,
    folder: RunFolder,
    world: World,
    *,
    offline: bool,
    device_name: str,
    reporter: Reporter,
    callbacks: CallbackList,
) -> RunRecord:
    """Run what comes first, such as teachers, then the stages; and write a record in any case."""
    # A workspace of fixed size makes cuBLAS repeatable; it must be set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from peftlab.run.before_training import with_steps_before_training

    started_at, started = datetime.datetime.now(datetime.UTC), time.monotonic()
    device = choose_device(device_name)
    error: BaseException | None = None
    own_model = checked.recipe.model

    def teach(teacher: CheckedRecipe, place: RunFolder) -> RunRecord:
        started = datetime.datetime.now(datetime.UTC), time.monotonic()
        return _run_stages(teacher, place, world, started, None, offline, device, reporter, CallbackList())

    try:
        checked = with_steps_before_training(
            checked, folder.path, teach, device=device, offline=offline, reporter=reporter, world=world
        )
    except (Exception, KeyboardInterrupt, SystemExit) as caught:  # noqa: BLE001 - as of the stages, every ending becomes a record
        error = caught
    # What comes first may know the base by another place; the record has the one that the recipe names.
    checked = replace(checked, recipe=replace_config(checked.recipe, model=own_model))
    return _run_stages(checked, folder, world, (started_at, started), error, offline, device, reporter, callbacks)


def _run_stages(
    checked: CheckedRecipe,
    folder: RunFolder,
    world: World,
    started: tuple[datetime.datetime, float],
    failed: BaseException | None,
    offline: bool,
    device: torch.device,
    reporter: Reporter,
    callbacks: CallbackList,
) -> RunRecord:
    """Run the stages; whatever they raise is turned into a status, and a record is written in any case.

    Args:
        checked: What to run.
        folder: Where.
        world: The processes that run it.
        started: When: the time, and that of the monotonic clock.
        failed: What has failed before; then no stage runs.
        offline: Allow no network.
        device: Where it runs.
        reporter: Tells a person.
        callbacks: Of the program that runs it.
    """
    world.keeps_pace = checked.recipe.training.sharding is not None and world.size > 1
    from peftlab.measurement.phases import PhaseClock
    from peftlab.run.findings import Findings
    from peftlab.run.outcome import record_of
    from peftlab.run.run_context import RunContext
    from peftlab.run.stages import run_stages
    from peftlab.training.interrupts import Interrupts

    findings = Findings(PhaseClock(device))
    error: BaseException | None = None

    def leave_record(error: BaseException | None) -> RunRecord:
        record = record_of(
            checked,
            findings,
            error,
            folder=folder,
            device=device,
            world=world,
            started_at=started[0],
            seconds=time.monotonic() - started[1],
        )
        write_record(record, folder.path)
        return record

    world.leave_record = leave_record
    with Interrupts(world.any) as interrupts:
        try:
            if failed is not None:
                raise failed
            run = RunContext(
                checked,
                folder,
                findings,
                device=device,
                offline=offline,
                reporter=reporter,
                interrupts=interrupts,
                callbacks=callbacks,
                world=world,
            )
            run_stages(run)
        except (Exception, KeyboardInterrupt, SystemExit) as caught:  # noqa: BLE001 - every ending becomes a record
            error = world.ended_by(caught)
            if isinstance(error, UserError):
                raise error from error.__cause__
    record = leave_record(error)
    world.note_record()
    if error is None and world.is_first:
        _complete(record, folder, checked)
    return record


def _complete(record: RunRecord, folder: RunFolder, checked: CheckedRecipe) -> None:
    """What a run needs its record for, or goes once that is there: a kill before it must not cost the training."""
    artifact = folder.path / (MODEL if checked.recipe.method.trains_base else ADAPTER)
    if record.status == "success" and artifact.is_dir() and not (artifact / CARD_NAME).exists():
        _write_card(record, folder, artifact, checked)
    if checked.recipe.training.checkpoint_every_steps is None:
        folder.checkpoints.delete()


def _write_card(record: RunRecord, folder: RunFolder, artifact: Path, checked: CheckedRecipe) -> None:
    """A model card beside the weights, where the Hub and people look for it."""
    from peftlab.measurement.example_intervals import intervals_of_file

    split = "test" if "test" in record.scores else "validation"
    is_whole = checked.recipe.method.trains_base
    write_card(
        record,
        artifact,
        task=checked.recipe.task,
        library="transformers" if is_whole else "peft",
        usage=checked.recipe.task.usage_note(),
        intervals=intervals_of_file(folder.predictions, split, record.scores.get(split, {})),
    )
