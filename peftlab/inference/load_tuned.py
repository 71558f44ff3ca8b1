"""Load a finished run, or an export of one, from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftlab.acceleration.accelerated import accelerate_inference
from peftlab.artifact.saved_run import TrainedRun
from peftlab.core.destination import inputs_of_recipe
from peftlab.core.devices import choose_device
from peftlab.core.errors import SourceError, UserError, did_you_mean
from peftlab.core.record import RunRecord, read_record, run_of
from peftlab.core.reporter import ProgressCallback
from peftlab.inference.exported import EXPORT_NAME, load_export, read_export
from peftlab.inference.tuned_model import TunedModel, torch_logits
from peftlab.models.base_model import resolve_dtype
from peftlab.recipe.schema import Recipe, with_learned
from peftlab.run.run_folder import RECIPE_NAME, read_recipe_document, read_run_recipe
from peftlab.training.accelerator import autocast_dtype
from peftlab.training.evaluation import TorchInference
from peftlab.training.launch import refuse_several_processes


def load_tuned(
    folder: Path | str,
    *,
    offline: bool = False,
    device: torch.device | None = None,
    report: ProgressCallback | None = None,
) -> TunedModel:
    """Load what a run left, or what ``peftlab export`` made of it, ready to answer: on CPU it computes by oneDNN.

    Args:
        folder: A run's or an export's.
        offline: Allow no network.
        device: Where it computes; None: CUDA where it is there.
        report: Is told of downloads.

    Raises:
        UserError: There is no finished run in the folder, or its base model cannot be loaded.
    """
    refuse_several_processes()
    folder = run_of(folder)
    check_folder(folder)
    is_export = (folder / EXPORT_NAME).is_file()
    tuned = (
        load_export(folder, device=device)
        if is_export
        else load_run(folder, offline=offline, device=device, report=report)
    )
    if tuned.model is not None:
        accelerate_inference(tuned.model)
    return tuned


def load_run(
    folder: Path | str,
    *,
    offline: bool = False,
    device: torch.device | None = None,
    report: ProgressCallback | None = None,
    dequantize: bool = False,
) -> TunedModel:
    """Load the base model that a run names, and what the run has tuned of it.

    Args:
        folder: The run's.
        offline: Allow no network.
        device: Where it computes; None: CUDA where it is there.
        report: Is told of downloads.
        dequantize: Turn the weights of a quantised base into plain ones before the adapter is put on them.

    Raises:
        UserError: There is no finished run in the folder, or its base model cannot be loaded.
    """
    folder = Path(folder)
    # Not needed for exports, and importing peft takes seconds.
    from peftlab.artifact.load_artifact import load_artifact
    from peftlab.artifact.save import ADAPTER, MODEL

    refuse_several_processes()
    folder = run_of(folder)
    record, recipe = read_finished_run(folder)
    device = device or choose_device()
    dtype = resolve_dtype(recipe.model.dtype, device=device, base_is_frozen=not recipe.method.trains_base)
    artifact = folder / (MODEL if recipe.method.trains_base else ADAPTER)
    if not artifact.is_dir():
        raise UserError(f"the run has no {artifact.name}/: its weights are missing", where=str(folder))
    run, labels = TrainedRun(folder, record, recipe), tuple(record.labels or ())

    def load_base() -> Any:
        return run.load_base(offline=offline, dequantize=dequantize, dtype=dtype, report=report)

    try:
        model: nn.Module = load_artifact(load_base, folder).to(device)
    except SourceError as error:
        needed = f"The run was tuned from {recipe.model.path}, which is needed to use it."
        error.hint = f"{needed} {error.hint}" if error.hint else needed
        raise
    compute_type = autocast_dtype(recipe.training.precision, device=device, weights=dtype)
    return TunedModel(
        name=record.name,
        folder=folder,
        recipe=recipe,
        labels=labels,
        temperature=record.calibration.temperature if record.calibration else 1.0,
        tokenizer=run.tokenizer,
        compute_logits=torch_logits(model, recipe.task, device=device, autocast_dtype=compute_type),
        model=model,
        inference=TorchInference(
            tokenizer=run.tokenizer,
            labels=labels,
            device=device,
            virtual_tokens=recipe.method.extra_positions(),
            autocast_dtype=compute_type,
        ),
    )


def what_it_reads(folder: Path) -> list[str]:
    """The addresses of the model and the data that a run or an export was made from, as far as it tells of them."""
    if (folder / EXPORT_NAME).is_file():
        return inputs_of_recipe(read_export(folder).recipe)
    return inputs_of_recipe(read_recipe_document(folder).values) if (folder / RECIPE_NAME).is_file() else []


def read_finished_run(folder: Path) -> tuple[RunRecord, Recipe]:
    """The record and the resolved recipe of a run that can be used.

    Raises:
        UserError: The folder holds no run, or one that has not ended with success.
    """
    check_folder(folder)
    if (folder / EXPORT_NAME).is_file():
        raise UserError("this is an export; the folder of the run itself is needed", where=str(folder))
    record = read_record(folder)
    if record.status != "success":
        raise UserError(
            f"the run has the status {record.status}, so there is nothing to use: {record.error or 'unknown'}",
            where=str(folder),
            hint="Only a run that ended with success can be used.",
        )
    return record, with_learned(read_run_recipe(folder), record.learned)


def check_folder(folder: Path) -> None:
    """Refuse a path that is no folder.

    Raises:
        UserError: With near names.
    """
    if folder.is_dir():
        return
    if folder.exists():
        raise UserError("this is a file; the folder of a run or of an export is needed", where=str(folder))
    near = [str(item.name) for item in folder.parent.iterdir() if item.is_dir()] if folder.parent.is_dir() else []
    raise UserError("no such folder", where=str(folder), hint=did_you_mean(folder.name, near))
