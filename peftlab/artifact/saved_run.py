"""``SavedRun``: the one way to open a finished run, to use it, or to begin another run where it ended.

It is here and not in ``run/``, because a recipe's base may be a run: what prepares a run opens one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from peftlab.artifact.saved_folder import find_folder, is_ensemble, is_export, is_run, read_run_recipe
from peftlab.core.config import replace_config
from peftlab.core.errors import SourceError, UnsupportedError, UserError
from peftlab.core.files import atomic_folder, cache_folder
from peftlab.core.generators import kept_generators
from peftlab.core.method import mergeable_methods
from peftlab.core.model_facts import ModelFacts
from peftlab.core.record import ADAPTER, MODEL, RunRecord, read_record
from peftlab.core.reporter import ProgressCallback
from peftlab.data.locations import parse_location, resolve_location
from peftlab.models.facts import read_model_facts
from peftlab.models.pretraining import PRETRAINING
from peftlab.recipe.schema import Recipe, with_learned

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class SavedRun:
    """A run that ended with success; :meth:`open` reads it, and loads no weights.

    Args:
        folder: Of the run.
        record: Its ``record.json``.
        recipe: What ran, with what the task learned of the training data.
    """

    folder: Path
    record: RunRecord
    recipe: Recipe

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read a finished run, and see that its files are whole.

        Args:
            path: The run's folder, or in it the record, ``adapter/`` or ``model/``.

        Raises:
            UserError: There is no run, it did not end with success, or a file is missing or damaged.
        """
        folder = find_folder(path)
        if is_export(folder):
            raise UserError("this is an export; the folder of the run itself is needed", where=str(folder))
        if is_ensemble(folder):
            raise UserError(
                "this is an ensemble, which answers as one and is no single model; the folder of a run is needed",
                where=str(folder),
                hint=f"Its runs are in {folder}/members.",
            )
        record = read_record(folder)
        if record.status != "success":
            raise UserError(
                f"the run has the status {record.status}, so there is nothing to use: {record.error or 'unknown'}",
                where=str(folder),
                hint="Only a run that ended with success can be used.",
            )
        run = cls(folder, record, with_learned(_with_own_base(read_run_recipe(folder), folder), record.learned))
        run._check_weights()
        return run

    def _check_weights(self) -> None:
        from peftlab.artifact.files import check_adapter, check_model
        from peftlab.artifact.weights import fingerprint_artifact

        if not self.artifact.is_dir():
            raise UserError(f"the run has no {self.artifact.name}/: its weights are missing", where=str(self.folder))
        (check_model if self.is_whole else check_adapter)(self.artifact)
        known = self.record.weights_fingerprint
        if known is not None and fingerprint_artifact(self.artifact, is_whole=self.is_whole) != known:
            raise UserError(
                f"the weights in {self.artifact.name}/ are not those that this run left: another run's, or damaged",
                where=str(self.folder),
                hint="Copy them from where the run was made, or run the recipe again. If you have changed them on "
                "purpose, set `weights_fingerprint` in its record.json to null.",
            )

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.record.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty where the task has none."""
        return tuple(self.record.labels or ())

    @property
    def temperature(self) -> float:
        """Logits are divided by it before they become probabilities."""
        return self.record.calibration.temperature if self.record.calibration else 1.0

    @property
    def is_whole(self) -> bool:
        """Whether it left a whole model, which needs no base."""
        return self.recipe.method.trains_base

    @property
    def artifact(self) -> Path:
        """Its ``model/`` or ``adapter/``; both hold the tokenizer."""
        return self.folder / (MODEL if self.is_whole else ADAPTER)

    @property
    def own_base(self) -> Path | None:
        """The base that it has pre-trained, which lies in its folder and nowhere else; None: it has none of its own."""
        base = _own_base(self.folder)
        return base if self.recipe.model.path == str(base.resolve()) else None

    @cached_property
    def weights_sha256(self) -> str:
        """Of its files of weights together, which tells whether they are still the same."""
        from peftlab.artifact.weights import sha256_of_weights

        return sha256_of_weights(self.artifact)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that the run used."""
        from peftlab.models.base_model import load_tokenizer

        # The revision is the base's; the tokenizer lies here.
        return load_tokenizer(str(self.artifact), replace_config(self.recipe.model, revision=None), offline=True)

    def dtype(self, device: torch.device) -> torch.dtype:
        """The type of the base's weights on a device, as in training."""
        from peftlab.models.base_model import resolve_dtype

        return resolve_dtype(self.recipe.model.dtype, device=device, base_is_frozen=not self.is_whole)

    def autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        """The type to compute in on a device, as in training; None: the weights' own."""
        from peftlab.training.accelerator import autocast_dtype

        return autocast_dtype(self.recipe.training.precision, device=device, weights=self.dtype(device))

    def load_base(
        self,
        *,
        offline: bool = False,
        device: torch.device | None = None,
        dequantize: bool = False,
        report: ProgressCallback | None = None,
    ) -> Any:
        """The base model with the task's head, as it was before the run; in eval mode.

        Args:
            offline: Allow no network.
            device: Where it goes; None: the CPU.
            dequantize: Turn the weights of a quantised base into plain ones.
            report: Is told of downloads.

        Raises:
            UserError: The base cannot be had, or the run's model started from nothing.
        """
        with kept_generators():
            base = self._load_base(offline=offline, device=device, dequantize=dequantize, report=report)
        self.check_base(self._base_now())
        return base if device is None else base.to(device)

    def load_model(
        self,
        *,
        offline: bool = False,
        device: torch.device | None = None,
        dequantize: bool = False,
        report: ProgressCallback | None = None,
    ) -> nn.Module:
        """The tuned model, in eval mode; arguments and errors are those of :meth:`load_base`."""
        from peftlab.acceleration.accelerated import prepare
        from peftlab.artifact.load_artifact import load_artifact

        def load_base() -> Any:
            return self._load_base(offline=offline, device=device, dequantize=dequantize, report=report)

        # What new modules and adapters begin with is drawn: whoever draws by a seed of their own goes on undisturbed.
        with kept_generators():
            model = load_artifact(load_base, self.folder)
        if self.is_whole:  # an adapter's base has been told when it was loaded
            prepare(model, self.recipe.model.acceleration)
        else:  # one of another shape was refused by its shape
            self.check_base(self._base_now())
        return model if device is None else model.to(device)

    def _load_base(
        self, *, offline: bool, device: torch.device | None, dequantize: bool, report: ProgressCallback | None
    ) -> Any:
        """The base on the CPU, with weights of the type that they have on the device."""
        import torch

        from peftlab.models.added_tokens import ids_of
        from peftlab.models.base_model import load_base_model
        from peftlab.models.quantization import dequantize as dequantized

        recipe = self.recipe
        if recipe.model.from_config is not None:
            raise UnsupportedError("the run's model started from nothing, so it has no base", where=str(self.folder))
        try:
            location = resolve_location(parse_location(recipe.model.path), offline=offline, report=report)
            source = checkpoint_of(location, offline=offline)
            # As in training: new modules that the artifact does not hold are drawn alike.
            torch.manual_seed(recipe.seed)
            base = load_base_model(
                source,
                recipe.model,
                recipe.task.head(self.labels),
                dtype=self.dtype(device or torch.device("cpu")),
                dropout=0.0,
                pad_token_id=self.tokenizer.pad_token_id,
                offline=offline,
                added_token_ids=ids_of(self.tokenizer, recipe.model.add_tokens),
                rows_apart=not self.is_whole,
                device=device,
            )
        except SourceError as error:
            needed = f"The run was tuned from {recipe.model.path}, which is needed to use it."
            error.hint = f"{needed} {error.hint}" if error.hint else needed
            raise
        return dequantized(base.model) if dequantize and recipe.model.quantization is not None else base.model

    def _base_now(self) -> str | None:
        """The fingerprint of the base that was just loaded, and so is at hand."""
        model = self.recipe.model
        return fingerprint_of(resolve_location(parse_location(model.path), offline=True), revision=model.revision)

    def check_base(self, found: str | None) -> None:
        """See that a base is the one that the run was tuned on; of a whole model's nothing is left, so any will do.

        Args:
            found: From :func:`fingerprint_of`.

        Raises:
            UserError: Its weights are others.
        """
        wanted = self.record.base_fingerprint
        if None not in (wanted, found) and wanted != found and not self.is_whole:
            raise UserError(
                f"the weights of {self.recipe.model.path} are not those that this run was tuned on, so it would "
                "answer wrongly",
                where=str(self.folder),
                hint="Put the earlier weights back, or run the recipe again. A model of the Hub stays the same where "
                "`model.revision` names a commit.",
            )

    # --- as the beginning of another run --------------------------------------------------------------------------

    def facts(self, path: str) -> ModelFacts:
        """What is known of a model that starts where this run ended.

        Args:
            path: How the recipe names the run.

        Raises:
            UnsupportedError: Its adapter cannot become a part of the base.
        """
        if self.is_whole:
            return read_model_facts(self.artifact, path=path)
        method = self.recipe.method
        if not method.mergeable:
            raise UnsupportedError(
                f"the run was tuned with {method.registered_name}, which cannot be merged into its base",
                where=path,
                hint=f"Start from a run of one of these methods: {mergeable_methods()}.",
            )
        # The adapter's folder holds the base's config; its weights are not those of the model that is to be built.
        return replace(read_model_facts(self.artifact, path=path), weights=None)

    def checkpoint(self, *, offline: bool) -> Path:
        """The tuned model as transformers loads it; an adapter is merged into its base once, into the cache."""
        return self.artifact if self.is_whole else self._merged(offline=offline)

    def _merged(self, *, offline: bool) -> Path:
        import torch
        from filelock import FileLock

        from peftlab.artifact.merge import merge

        digest = hashlib.sha256(str(self.folder.resolve()).encode())
        for file in sorted(self.artifact.glob("*.safetensors")):
            digest.update(file.read_bytes())
        # Not by the run's name: a record is written by anybody, and may call itself `../../elsewhere`.
        target = cache_folder() / "merged" / digest.hexdigest()[:32]
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not (target / "config.json").is_file():
                # Merged into quantised matrices, an update would be rounded away. Plain ones may not fit onto a card.
                loaded = self.load_model(offline=offline, device=torch.device("cpu"), dequantize=True)
                model = merge(loaded, self.recipe.method)
                with atomic_folder(target) as partial:
                    model.save_pretrained(partial)
                    self.tokenizer.save_pretrained(partial)
        return target


def _with_own_base(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe whose base is where the run has pre-trained it, if it has."""
    if recipe.model.pretrain is None:
        return recipe
    base = str(_own_base(folder).resolve())
    return replace_config(recipe, model=replace_config(recipe.model, path=base, revision=None, pretrain=None))


def _own_base(folder: Path) -> Path:
    return folder / PRETRAINING / MODEL


def checkpoint_of(place: Path | str, *, offline: bool) -> str:
    """What transformers loads a place from: a run's adapter is merged into its base first."""
    from peftlab.models.base_model import local_source

    if isinstance(place, str) or not is_run(place):
        return local_source(place)
    return str(SavedRun.open(place).checkpoint(offline=offline))


def fingerprint_of(place: Path | str, *, revision: str | None) -> str | None:
    """What tells whether the weights of a base are still the same; see :func:`fingerprint_weights`.

    Args:
        place: As for :func:`checkpoint_of`; what it loads must be at hand.
        revision: Of a Hub id.
    """
    from peftlab.models.weights_fingerprint import fingerprint_weights

    if isinstance(place, str) or not is_run(place):
        return fingerprint_weights(place, revision=revision)
    run = SavedRun.open(place)
    if run.is_whole:
        return fingerprint_weights(run.artifact)
    # Merged weights may differ in their last bits from machine to machine.
    return hashlib.sha256(f"{run.weights_sha256} {run.record.base_fingerprint}".encode()).hexdigest()


def refuse_twice(runs: Sequence[SavedRun], *, hint: str = "Name each run once.") -> None:
    """Refuse runs of which one is named twice.

    Raises:
        UserError: With the second one.
    """
    places = [run.folder.resolve() for run in runs]
    for at, place in enumerate(places):
        if place in places[:at]:
            raise UserError("this run is named twice", where=str(runs[at].folder), hint=hint)
