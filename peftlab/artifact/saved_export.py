"""``SavedExport``: the one way to open what ``peftlab export`` made; and what it wrote about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pydantic
from pydantic import Field

from peftlab.artifact.export_formats import FORMATS, ExportFormat, Format
from peftlab.artifact.saved_ensemble import MEMBERS, SavedEnsemble
from peftlab.artifact.saved_folder import (
    EXPORT_NAME,
    find_folder,
    is_ensemble,
    is_export,
    naming_plugins,
    read_recipe_document,
)
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import Config, Document, replace_config
from peftlab.core.destination import inputs_of_recipe
from peftlab.core.errors import UserError, first_line
from peftlab.core.files import write_json
from peftlab.core.record import RECIPE_NAME, run_of
from peftlab.models.remote_code import of_another_hand
from peftlab.recipe.schema import Recipe, build_recipe, with_learned

if TYPE_CHECKING:
    import torch
    from torch import nn

FORMAT_VERSION: Literal[1] = 1


class ExportCheck(Config):
    """An export compared with its run, on data that the run was not trained on."""

    split: str = Field(description="The split of the run's data on which both were compared.")
    examples: int
    greatest_logit_difference: float
    equal_predictions: float = Field(description="Share of examples with the same prediction.")
    scores: dict[str, float] = Field(description="Metrics of the export.")
    run_scores: dict[str, float] = Field(description="Metrics of the run on the same examples.")
    logit_drift_of_dequantization: float | None = Field(
        None, description="Greatest logit difference between the quantised base and the same base dequantised."
    )


class ComposedPart(Config):
    """One of the runs that were merged into one, and what became of its scores."""

    run: str
    folder: str = Field(description="The name of its folder.")
    weight: float
    combination: str
    density: float | None = Field(description="Share of the update's values that was kept; null for linear.")
    split: str = Field(description="The split of this run's data on which both were scored.")
    run_scores: dict[str, float] = Field(description="Of the run itself.")
    scores: dict[str, float] = Field(description="Of the merge.")


class MadeOf(Config):
    """The weights and settings that an export was made of: another one of the same would say the same."""

    weights_fingerprints: list[str] = Field(description="Of each run.")
    combination: str | None = None
    weights: list[float] = Field(default_factory=list, description="Of each run; empty for one run.")
    density: float | None = None
    max_score_loss: float | None = None


class ExportDescription(Config):
    """What an export is and where it comes from."""

    format_version: Literal[1] = FORMAT_VERSION
    format: ExportFormat
    name: str
    recipe: dict[str, Any] = Field(description="The resolved recipe of the run.")
    labels: list[str]
    learned: dict[str, Any] = Field(
        default_factory=dict, description="What the task learned of the training split beside the classes."
    )
    temperature: float
    inputs: list[str] = Field(description="What the model takes, in this order.")
    check: ExportCheck | None = None
    plugins: dict[str, str] = Field(
        default_factory=dict, description="The versions of the plugins that were installed where it was made."
    )
    composed_of: list[ComposedPart] = Field(default_factory=list, description="Empty for an export of one run.")
    made_of: MadeOf | None = Field(
        None, description="Null where the record of a run has no fingerprint of its weights."
    )


@dataclass(frozen=True)
class SavedExport:
    """An export; :meth:`open` reads it, and loads no weights.

    Args:
        folder: Of the export.
        description: Its ``peftlab_export.json``.
        recipe: Of the run that it was made from.
    """

    folder: Path
    description: ExportDescription
    recipe: Recipe

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read an export, and see that its files are whole.

        Raises:
            UserError: There is none, or a file is missing or damaged.
        """
        from peftlab.artifact.files import check_model, check_one_file

        folder = find_folder(path)
        description = read_export(folder)
        document = Document(source=str(folder / EXPORT_NAME), values=of_another_hand(description.recipe))
        with naming_plugins(description.plugins):
            recipe = with_learned(build_recipe(document, default_name="export"), description.learned)
        file = FORMATS[description.format].file
        if file is None:
            check_model(folder)
        else:
            check_one_file(folder, file)
        return cls(folder, description, recipe)

    @property
    def name(self) -> str:
        """The run's."""
        return self.description.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty where the task has none."""
        return tuple(self.description.labels)

    @property
    def temperature(self) -> float:
        """Logits are divided by it before they become probabilities."""
        return self.description.temperature

    @property
    def format(self) -> Format:
        """What there is to know of its format."""
        return FORMATS[self.description.format]

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that the run used."""
        from peftlab.models.base_model import load_tokenizer

        return load_tokenizer(str(self.folder), replace_config(self.recipe.model, revision=None), offline=True)

    def load_model(self, *, device: torch.device) -> nn.Module:
        """The model of an export that torch runs, in eval mode."""
        from peftlab.acceleration.accelerated import prepare
        from peftlab.artifact.whole_model import load_gguf, load_model

        file = self.format.file
        model = load_model(self.folder) if file is None else load_gguf(self.folder / file)
        model = model.eval().to(device)
        prepare(model, self.recipe.model.acceleration)
        return model


Saved = SavedRun | SavedExport | SavedEnsemble


def open_saved(path: Path | str) -> Saved:
    """Open what a user names, be it a run, an export or an ensemble.

    Raises:
        UserError: It is none of them, or cannot be used.
    """
    folder = find_folder(path)
    if is_ensemble(folder):
        return SavedEnsemble.open(folder)
    return SavedExport.open(path) if is_export(folder) else SavedRun.open(path)


def inputs_of_saved(path: Path | str) -> list[Path | str]:
    """What a verb reads that is given a run or an export: its folder, and the addresses of its model and data.

    Nothing is refused for what is missing: the list is for checks of a destination, which come first.

    Raises:
        UserError: What the run or export says of itself is damaged.
    """
    folder = run_of(path)
    if is_export(folder):
        return [folder, *inputs_of_recipe(read_export(folder).recipe)]
    if is_ensemble(folder):
        return [folder, *(str(place) for place in folder.glob(f"{MEMBERS}/*"))]
    if (folder / RECIPE_NAME).is_file():
        return [folder, *inputs_of_recipe(read_recipe_document(folder).values)]
    return [folder]


def read_export(folder: Path) -> ExportDescription:
    """Read what an export says of itself.

    Raises:
        UserError: There is no export, the description is damaged, or it is of another version.
    """
    path = folder / EXPORT_NAME
    try:
        return ExportDescription.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"this is not an export: it has no {EXPORT_NAME}", where=str(folder)) from None
    except (ValueError, pydantic.ValidationError) as error:
        raise UserError(f"the export is damaged: {first_line(error)}", where=str(path)) from None


def write_export(description: ExportDescription, folder: Path) -> None:
    """Write what an export says of itself."""
    write_json(folder / EXPORT_NAME, description.model_dump(mode="json"))
