"""A finished run, or an export of one, becomes a model that is ready to use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from peftlab.acceleration.accelerated import accelerate_inference
from peftlab.artifact.saved_ensemble import SavedEnsemble
from peftlab.artifact.saved_export import Saved, SavedExport, open_saved
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.devices import choose_device
from peftlab.core.reporter import ProgressCallback
from peftlab.inference.ensemble.tuned_ensemble import TunedEnsemble
from peftlab.inference.onnx_logits import onnx_logits
from peftlab.inference.tuned_model import TunedModel
from peftlab.training.evaluation import TorchInference
from peftlab.training.launch import refuse_several_processes
from peftlab.training.offload import Offload


def load_tuned(
    saved: Saved | Path | str,
    *,
    offline: bool = False,
    device: torch.device | None = None,
    report: ProgressCallback | None = None,
) -> TunedModel:
    """Load what a run left, or what ``peftlab export`` or ``ensemble`` made, ready to answer: on CPU by oneDNN.

    Args:
        saved: A run, an export or an ensemble, or the folder of one.
        offline: Allow no network.
        device: Where it computes; None: CUDA where it is there.
        report: Is told of downloads.

    Raises:
        UserError: There is no finished run in the folder, or its base model cannot be loaded.
    """
    refuse_several_processes()
    if isinstance(saved, Path | str):
        saved = open_saved(saved)
    if isinstance(saved, SavedEnsemble):
        return load_ensemble(saved, offline=offline, device=device, report=report)
    if isinstance(saved, SavedExport):
        tuned = load_export(saved, device=device)
    else:
        tuned = load_run(saved, offline=offline, device=device, report=report)
    if tuned.model is not None:
        accelerate_inference(tuned.model)
    return tuned


def load_run(
    run: SavedRun | Path | str,
    *,
    offline: bool = False,
    device: torch.device | None = None,
    report: ProgressCallback | None = None,
    dequantize: bool = False,
) -> TunedModel:
    """Load the base model that a run names, and what the run has tuned of it.

    Args:
        run: The run, or its folder.
        offline: Allow no network.
        device: Where it computes; None: CUDA where it is there.
        report: Is told of downloads, and of settings that count in training alone.
        dequantize: Turn the weights of a quantised base into plain ones before the adapter is put on them.

    Raises:
        UserError: There is no finished run in the folder, or its base model cannot be loaded.
    """
    refuse_several_processes()
    if not isinstance(run, SavedRun):
        run = SavedRun.open(run)
    device = device or choose_device()
    if report is not None and (note := _about_offloading(run.recipe.model.offload, device)):
        report(note)
    model = run.load_model(offline=offline, device=device, dequantize=dequantize, report=report)
    return _ready(run, model, device, virtual_tokens=run.recipe.method.extra_positions())


def _about_offloading(offload: Offload | None, device: torch.device) -> str:
    """Nothing where the base lies as the recipe has it; on the CPU, `cpu` is where it lies anyway."""
    if offload is None or offload == device.type:
        return ""
    whose = "the GPU's memory" if device.type == "cuda" else "memory"
    return f"model.offload: {offload} counts in training alone: to answer, the whole base is held in {whose}"


def load_untuned(run: SavedRun, *, offline: bool = False, device: torch.device | None = None) -> TunedModel:
    """Load the base of a run as it was before, to be asked just as the run is.

    Raises:
        UserError: The base cannot be had, or the run's model started from nothing.
    """
    device = device or choose_device()
    return _ready(run, run.load_base(offline=offline, device=device), device, virtual_tokens=0)


def _ready(run: SavedRun, model: nn.Module, device: torch.device, *, virtual_tokens: int) -> TunedModel:
    inference = TorchInference(
        tokenizer=run.tokenizer,
        labels=run.labels,
        device=device,
        virtual_tokens=virtual_tokens,
        autocast_dtype=run.autocast_dtype(device),
    )
    return TunedModel.of_module(run, model, inference)


def load_export(export: SavedExport | Path | str, *, device: torch.device | None) -> TunedModel:
    """Load an export; merged ones through transformers, ONNX ones through onnxruntime.

    Args:
        export: The export, or its folder.
        device: Where a merged one computes; None: CUDA where it is there. ONNX files are for CPUs.

    Raises:
        UserError: The export is damaged, or onnxruntime is not installed.
    """
    if not isinstance(export, SavedExport):
        export = SavedExport.open(export)
    if export.format.computed_by == "onnxruntime":
        file = export.folder / str(export.format.file)
        return TunedModel.of_logits(export, onnx_logits(file, export.description.inputs))
    device = device or choose_device()
    inference = TorchInference(tokenizer=export.tokenizer, labels=export.labels, device=device)
    return TunedModel.of_module(export, export.load_model(device=device), inference)


def load_ensemble(
    ensemble: SavedEnsemble,
    *,
    offline: bool,
    device: torch.device | None,
    report: ProgressCallback | None,
) -> TunedEnsemble:
    """Load all runs of an ensemble; what is equal in their bases is in memory once.

    Args:
        ensemble: Opened.
        offline: Allow no network.
        device: Where it computes; None: CUDA where it is there.
        report: Is told of downloads.

    Raises:
        UserError: A base model cannot be loaded.
    """
    members = load_members(ensemble.members, offline=offline, device=device, report=report)
    return TunedEnsemble.of_members(
        members, name=ensemble.name, folder=ensemble.folder, learned=ensemble.description.learned
    )


def load_members(
    runs: Sequence[SavedRun], *, offline: bool, device: torch.device | None, report: ProgressCallback | None
) -> list[TunedModel]:
    """Load runs that answer together; arguments and errors as for :func:`load_ensemble`."""
    from peftlab.artifact.hosting import TensorPool

    pool, members = TensorPool(), list[TunedModel]()
    for run in runs:
        member = load_run(run, offline=offline, device=device, report=report)
        assert member.model is not None  # noqa: S101 - runs are loaded by torch
        accelerate_inference(member.model)
        pool.share(member.model)
        members.append(member)
    return members
