"""A run's folder: made once, locked while in use, never overwritten."""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.artifact.saved_folder import read_run_recipe
from peftlab.core.changed_settings import changed_settings
from peftlab.core.destination import check_folder
from peftlab.core.errors import UserError
from peftlab.core.files import names_in
from peftlab.core.folder_lock import alone_in
from peftlab.core.record import (
    CHECKPOINTS,
    METRICS_NAME,
    PREDICTIONS_NAME,
    RECIPE_NAME,
    RECORD_NAME,
    RunRecord,
    read_record,
)
from peftlab.recipe.schema import Recipe, write_recipe
from peftlab.run.at_work import LOCK_NAME, signed
from peftlab.training.checkpoints import CheckpointFolder

BASE_NAME = "base"
"""Where a run keeps a base model that was given in Python, and that no checkpoint holds."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        path: Where it is.
        is_new: Whether this process has made it.
    """

    path: Path
    is_new: bool = False

    @property
    def checkpoints(self) -> CheckpointFolder:
        """Its checkpoints."""
        return CheckpointFolder(self.path / CHECKPOINTS)

    @property
    def metrics(self) -> Path:
        """Its metrics log."""
        return self.path / METRICS_NAME

    @property
    def has_begun(self) -> bool:
        """Whether there is something to go on with: a checkpoint, or a run that has ended with success."""
        return any(self.checkpoints.folder.glob("step-*")) or self.finished_record() is not None

    @property
    def predictions(self) -> Path:
        """Its predictions."""
        return self.path / PREDICTIONS_NAME

    @property
    def compared(self) -> Path:
        """What the model and its base have written to the same prompts."""
        return self.path / "compared_texts.jsonl"

    def discard_unused(self) -> None:
        """Delete the folder of a run that was refused before it left anything but its recipe, if it was made for it."""
        if self.is_new and {item.name for item in self.path.iterdir()} <= {RECIPE_NAME, LOCK_NAME, BASE_NAME}:
            shutil.rmtree(self.path)

    def finished_record(self) -> RunRecord | None:
        """The record of a run that ended with success, where there is one."""
        if not (self.path / RECORD_NAME).exists():
            return None
        record = read_record(self.path)
        return record if record.status == "success" else None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out.

        Raises:
            UserError: Another process is at work in the folder, or nothing can be written there.
        """
        with (
            alone_in(self.path, LOCK_NAME, busy="another process is running in this folder"),
            signed(self.path / LOCK_NAME),
        ):
            yield

    def earlier_recipe(self) -> Recipe | None:
        """The recipe of the run that is to be resumed; None where there is none."""
        return read_run_recipe(self.path) if (self.path / RECIPE_NAME).exists() else None

    def keep_recipe(self, recipe: Recipe) -> None:
        """Write the recipe down, or see that the one that is there is the same.

        Raises:
            UserError: The folder holds a run of another recipe.
        """
        path = self.path / RECIPE_NAME
        if not path.exists():
            write_recipe(recipe, path)
            return
        differing = changed_settings(_what_is_computed(read_run_recipe(self.path)), _what_is_computed(recipe))
        if differing:
            raise UserError(
                f"the run in this folder has another recipe: {'; '.join(differing[:4])}",
                where=str(self.path),
                hint="Resume it with the same recipe and --set options, or choose another --output-dir.",
            )


def _what_is_computed(recipe: Recipe) -> dict[str, Any]:
    """A recipe without what only says how; nor does it matter by whose word the model's code runs, but whether."""
    values: dict[str, Any] = recipe.model_dump(mode="json")
    return {
        **values,
        "model": {**values["model"], "trust_remote_code": bool(values["model"]["trust_remote_code"])},
        "training": {key: own for key, own in values["training"].items() if key != "cuda_graphs"},
    }


def check_output_dir(output_dir: Path | None, *, resume: bool, inputs: Iterable[Path | str]) -> None:
    """Refuse a folder for a run before anything else is done.

    Args:
        output_dir: The folder; None: one that is named later.
        resume: Go on with what is there.
        inputs: What the run reads.

    Raises:
        UserError: It is in use, lies in another run's folder or in what is read, or cannot be made.
    """
    if output_dir is None:
        return
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError("the output folder is a file", where=str(output_dir), hint="Choose another --output-dir.")
    there = names_in(output_dir)
    names = there - {LOCK_NAME}
    if names and not resume:
        raise UserError(
            "the output folder is not empty, and a run never overwrites another",
            where=str(output_dir),
            hint="Choose another --output-dir, or add --resume to continue the run in it.",
        )
    # A folder with a recipe and other things in it may be where the user keeps recipes; bench leaves one with a recipe.
    is_run = RECIPE_NAME in names and (names == {RECIPE_NAME} or bool(there & {LOCK_NAME, RECORD_NAME}))
    if names and not is_run:
        raise UserError("there is no run in this folder to resume", where=str(output_dir))
    if not names:
        check_folder(output_dir, option="--output-dir", inputs=inputs)


def open_run_folder(name: str, output_dir: Path | None, *, resume: bool) -> RunFolder:
    """Make the folder of a new run, or find the one to resume.

    Args:
        name: The recipe's.
        output_dir: The folder; None: ``runs/<name>-<UTC time>``, or with ``resume`` the latest unfinished of that name.
        resume: Go on with what is there. Where there is nothing yet, the run starts from the beginning.

    Raises:
        UserError: The folder is in use, or there is nothing to resume.
    """
    if output_dir is None:
        output_dir = choose_folder(name, resume=resume)
    check_output_dir(output_dir, resume=resume, inputs=())
    is_new = not output_dir.exists()
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the output folder cannot be made: {error.strerror}", where=str(output_dir)) from None
    return RunFolder(output_dir, is_new)


def choose_folder(name: str, *, resume: bool) -> Path:
    """The folder of a run that no ``--output-dir`` names; it is not made yet.

    Raises:
        UserError: There is nothing to resume.
    """
    return _latest_unfinished(name) if resume else _new_folder(name)


def _new_folder(name: str) -> Path:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    folder, number = Path("runs") / f"{name}-{stamp}", 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{stamp}-{number}"
    return folder


def _latest_unfinished(name: str) -> Path:
    time = f"{'[0-9]' * 8}T*"  # not just anything: `tweets-2` is the name of another run
    candidates = [path.parent for path in Path("runs").glob(f"{name}-{time}/{RECIPE_NAME}")]
    unfinished = [path for path in candidates if RunFolder(path).finished_record() is None]
    if not unfinished:
        raise UserError(
            f"there is no unfinished run of `{name}` under runs/", hint="Name its folder with --output-dir."
        )
    return max(unfinished, key=lambda path: path.stat().st_mtime)
