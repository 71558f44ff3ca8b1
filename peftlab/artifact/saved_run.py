"""What a finished run left, to be used again: as the beginning of another run, or to talk to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.config import replace_config
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.files import atomic_folder, cache_folder
from peftlab.core.model_facts import ModelFacts
from peftlab.core.record import RECORD_NAME, RunRecord, read_record, run_of
from peftlab.core.reporter import ProgressCallback
from peftlab.data.locations import parse_location, resolve_location
from peftlab.models.facts import read_model_facts
from peftlab.recipe.schema import Recipe, load_recipe, with_learned

if TYPE_CHECKING:
    import torch
    from torch import nn

ADAPTER, MODEL = "adapter", "model"


@dataclass(frozen=True)
class TrainedRun:
    """A run's folder, read.

    Args:
        folder: Of the run.
        record: It says that the run succeeded.
        recipe: What ran.
    """

    folder: Path
    record: RunRecord
    recipe: Recipe

    @property
    def artifact(self) -> Path:
        """Its ``model/`` or ``adapter/``; both hold the tokenizer."""
        whole = self.folder / MODEL
        return whole if whole.is_dir() else self.folder / ADAPTER

    @property
    def is_whole(self) -> bool:
        """Whether it left a whole model, which needs no base."""
        return self.artifact.name == MODEL

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that the run used."""
        from peftlab.models.base_model import load_tokenizer

        # The revision is the base's; the tokenizer lies here.
        return load_tokenizer(str(self.artifact), replace_config(self.recipe.model, revision=None), offline=True)

    def load_base(
        self,
        *,
        offline: bool = False,
        dequantize: bool = False,
        dtype: torch.dtype | None = None,
        report: ProgressCallback | None = None,
    ) -> Any:
        """The base model with the task's head, as it was before the run; in eval mode.

        Args:
            offline: Allow no network.
            dequantize: Turn the weights of a quantised base into plain ones.
            dtype: Of the weights; None: as for a frozen base on CPU.
            report: Is told of downloads.

        Raises:
            UnsupportedError: The run's model started from nothing.
        """
        import torch

        from peftlab.models.added_tokens import ids_of
        from peftlab.models.base_model import load_base_model, resolve_dtype
        from peftlab.models.quantization import dequantize as dequantized

        if self.recipe.model.from_config is not None:
            raise UnsupportedError("the run's model started from nothing, so it has no base", where=str(self.folder))
        if dtype is None:
            dtype = resolve_dtype(self.recipe.model.dtype, device=torch.device("cpu"), base_is_frozen=True)
        location = resolve_location(parse_location(self.recipe.model.path), offline=offline, report=report)
        # As in training: new modules that the artifact does not hold are drawn alike.
        torch.manual_seed(self.recipe.seed)
        base = load_base_model(
            checkpoint_of(location, offline=offline),
            self.recipe.model,
            self.recipe.task.head(tuple(self.record.labels or ())),
            dtype=dtype,
            dropout=0.0,
            pad_token_id=self.tokenizer.pad_token_id,
            offline=offline,
            added_token_ids=ids_of(self.tokenizer, self.recipe.model.add_tokens),
            rows_apart=not self.recipe.method.trains_base,
        )
        is_quantized = self.recipe.model.quantization is not None
        return dequantized(base.model) if dequantize and is_quantized else base.model

    def load_tuned(
        self, *, offline: bool = False, dequantize: bool = False, dtype: torch.dtype | None = None
    ) -> nn.Module:
        """The tuned model, in eval mode; the arguments are those of ``load_base``."""
        from peftlab.artifact.load_artifact import load_artifact

        return load_artifact(lambda: self.load_base(offline=offline, dequantize=dequantize, dtype=dtype), self.folder)


def is_run(path: Path | str) -> bool:
    """Whether a folder is that of a run."""
    path = Path(path)
    return (path / RECORD_NAME).is_file()


def open_run(folder: Path | str) -> TrainedRun:
    """Read a finished run.

    Raises:
        UserError: There is none, or it did not succeed.
    """
    folder = run_of(folder)
    record = read_record(folder)
    if record.status != "success":
        raise UserError(f"the run has not succeeded: its status is {record.status}", where=str(folder))
    recipe, _ = load_recipe(folder / "recipe.yaml")
    run = TrainedRun(folder, record, with_learned(recipe, record.learned))
    if not run.artifact.is_dir():
        raise UserError("the run has no model/ and no adapter/ any more", where=str(folder))
    from peftlab.artifact.files import check_adapter, check_model

    (check_model if run.is_whole else check_adapter)(run.artifact)
    return run


def facts_of_run(run: TrainedRun, path: str) -> ModelFacts:
    """What is known of a model that starts where a run ended.

    Raises:
        UnsupportedError: Its adapter cannot become a part of the base.
    """
    if run.is_whole:
        return read_model_facts(run.artifact, path=path)
    if not run.recipe.method.mergeable:
        raise UnsupportedError(
            f"the run was tuned with {run.recipe.method.registered_name}, which cannot be merged into its base",
            where=path,
            hint="Start from a run of full, lora, adalora, ia3, bitfit or linear_probe.",
        )
    # The adapter's folder holds the base's config; its weights are not those of the model that is to be built.
    return replace(read_model_facts(run.artifact, path=path), weights=None)


def checkpoint_of(place: Path | str, *, offline: bool) -> str:
    """What transformers loads a place from: a run's adapter is merged into its base first, once, into the cache."""
    from peftlab.models.base_model import local_source

    if isinstance(place, str) or not is_run(place):
        return local_source(place)
    run = open_run(place)
    return str(run.artifact) if run.is_whole else str(_merged(run, offline=offline))


def _merged(run: TrainedRun, *, offline: bool) -> Path:
    from filelock import FileLock

    from peftlab.core.added_rows import fold_rows

    digest = hashlib.sha256(str(run.folder.resolve()).encode())
    for file in sorted(run.artifact.glob("*.safetensors")):
        digest.update(file.read_bytes())
    target = cache_folder() / "merged" / f"{run.record.name}-{digest.hexdigest()[:16]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not (target / "config.json").is_file():
            # Merged into quantised matrices, an update would be rounded away.
            model: Any = run.load_tuned(offline=offline, dequantize=True)
            if hasattr(model, "merge_and_unload"):
                model = model.merge_and_unload()
            fold_rows(model)
            with atomic_folder(target) as partial:
                model.save_pretrained(partial)
                run.tokenizer.save_pretrained(partial)
    return target
