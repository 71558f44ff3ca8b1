"""``SavedEnsemble``: the one way to open what ``peftlab ensemble`` made; and what it wrote about it.

The folder has ``ensemble.json``, ``predictions.parquet`` as a run has it, and in ``members/`` a copy of each run: its
recipe, its record and its weights. So it can be moved, and stays as it is when a run is deleted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field, StringConstraints

from peftlab.artifact.saved_folder import find_folder
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import Config
from peftlab.core.errors import UserError, first_line
from peftlab.core.files import write_json
from peftlab.core.record import ENSEMBLE_NAME, RECIPE_NAME, RECORD_NAME, PairedTest
from peftlab.recipe.schema import Recipe, with_learned

MEMBERS = "members"
FORMAT_VERSION: Literal[1] = 1
Scores = dict[str, dict[str, float]]


class Member(Config):
    """One of the runs."""

    run: str
    seed: int
    folder: Annotated[str, StringConstraints(pattern=r"^[0-9]+$")] = Field(description="Its folder in members/.")
    origin: str = Field(description="The folder that it was copied from.")
    scores: Scores = Field(description="Of this run alone on the ensemble's rows; split, then metric.")


class EnsembleDescription(Config):
    """What an ensemble is, and how good it was when it was made."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    members: list[Member] = Field(min_length=2)
    learned: dict[str, object] = Field(
        default_factory=dict, description="What the task learned of the first run's training split beside the classes."
    )
    rows: dict[str, int] = Field(description="What was scored, by split.")
    rows_left_out: dict[str, int] = Field(
        description="Rows of the first run's splits that another run was trained on, or chosen by."
    )
    scores: Scores
    intervals: dict[str, dict[str, tuple[float, float] | None]] = Field(
        description="95 % intervals over the examples; split, then metric."
    )
    notes: list[str] = Field(default_factory=list, description="Where an interval is too narrow, and why.")
    expected_calibration_error: dict[str, float | None]
    comparison: PairedTest | None = Field(description="Null where the metric has no contribution per example.")


@dataclass(frozen=True)
class SavedEnsemble:
    """An ensemble; :meth:`open` reads it, and loads no weights.

    Args:
        folder: Of the ensemble.
        description: Its ``ensemble.json``.
        members: Its runs.
    """

    folder: Path
    description: EnsembleDescription
    members: tuple[SavedRun, ...]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read an ensemble, and see that the files of its runs are whole.

        Raises:
            UserError: There is none, or a file is missing or damaged.
        """
        folder = find_folder(path)
        file = folder / ENSEMBLE_NAME
        try:
            description = EnsembleDescription.model_validate_json(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"this is not an ensemble: it has no {ENSEMBLE_NAME}", where=str(folder)) from None
        except (ValueError, pydantic.ValidationError) as error:
            raise UserError(f"the ensemble is damaged: {first_line(error)}", where=str(file)) from None
        members = tuple(SavedRun.open(folder / MEMBERS / member.folder) for member in description.members)
        return cls(folder, description, members)

    @property
    def name(self) -> str:
        """As it was called when it was made."""
        return self.description.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty where the task has none."""
        return self.members[0].labels

    @property
    def recipe(self) -> Recipe:
        """Of the first run, with what was learned of the ensemble's answers."""
        return with_learned(self.members[0].recipe, self.description.learned)


def copy_member(run: SavedRun, folder: Path) -> None:
    """Copy what is needed to use a run; a base that it has pre-trained itself is nowhere else."""
    folder.mkdir(parents=True)
    for name in (RECIPE_NAME, RECORD_NAME):
        shutil.copyfile(run.folder / name, folder / name)
    for part in (run.artifact, *([] if run.own_base is None or run.is_whole else [run.own_base])):
        shutil.copytree(part, folder / part.relative_to(run.folder))


def write_ensemble(description: EnsembleDescription, folder: Path) -> None:
    """Write what an ensemble says of itself."""
    write_json(folder / ENSEMBLE_NAME, description.model_dump(mode="json"))
