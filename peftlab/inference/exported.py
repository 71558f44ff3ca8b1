"""Exports as they are found on disk: what ``peftlab export`` wrote about them, and how their logits are computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import torch
from pydantic import Field
from torch import Tensor

from peftlab.acceleration.accelerated import prepare
from peftlab.artifact.files import check_model, check_onnx
from peftlab.artifact.whole import load_model
from peftlab.core.config import Config, Document
from peftlab.core.devices import choose_device
from peftlab.core.errors import UserError
from peftlab.inference.tuned_model import ComputeLogits, TunedModel, torch_logits
from peftlab.models.base_model import load_tokenizer
from peftlab.recipe.schema import build_recipe, with_learned
from peftlab.training.evaluation import TorchInference

EXPORT_NAME = "peftlab_export.json"
ONNX_NAME = "model.onnx"
FORMAT_VERSION: Literal[1] = 1
SLOWER_FUSIONS = ("SkipLayerNormFusion",)
"""onnxruntime's CPU kernel of the fused form takes about six times as long as its addition and its layer norm apart."""

ExportFormat = Literal["merged", "onnx", "onnx-int8"]


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
    composed_of: list[ComposedPart] = Field(default_factory=list, description="Empty for an export of one run.")


def read_export(folder: Path) -> ExportDescription:
    """Read what an export says of itself.

    Raises:
        UserError: The description is damaged, or of another version.
    """
    path = folder / EXPORT_NAME
    try:
        return ExportDescription.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, pydantic.ValidationError) as error:
        raise UserError(f"the export is damaged: {str(error).splitlines()[0]}", where=str(path)) from None


def load_export(folder: Path, *, device: torch.device | None = None) -> TunedModel:
    """Load an export; merged ones through transformers, ONNX ones through onnxruntime.

    Args:
        folder: Of the export.
        device: Where a merged one computes; None: CUDA where it is there. ONNX files are for CPUs.

    Raises:
        UserError: The export is damaged, or onnxruntime is not installed.
    """
    description = read_export(folder)
    document = Document(source=str(folder / EXPORT_NAME), values=description.recipe)
    recipe = with_learned(build_recipe(document, default_name="export"), description.learned)
    if description.format == "merged":
        check_model(folder)
    else:
        check_onnx(folder, ONNX_NAME)
    tokenizer = load_tokenizer(str(folder), recipe.model.model_copy(update={"revision": None}), offline=True)
    model, inference = None, None
    if description.format == "merged":
        device = device or choose_device()
        model = load_model(folder).eval().to(device)
        prepare(model, recipe.model.acceleration)
        compute = torch_logits(model, recipe.task, device=device, autocast_dtype=None)
        inference = TorchInference(tokenizer=tokenizer, labels=tuple(description.labels), device=device)
    else:
        compute = onnx_logits(folder / ONNX_NAME, description.inputs)
    return TunedModel(
        name=description.name,
        folder=folder,
        recipe=recipe,
        labels=tuple(description.labels),
        temperature=description.temperature,
        tokenizer=tokenizer,
        compute_logits=compute,
        model=model,
        inference=inference,
    )


def onnx_logits(path: Path, inputs: list[str]) -> ComputeLogits:
    """Logits from an ONNX file, on as many threads as torch uses.

    Raises:
        UserError: onnxruntime is not installed, or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("onnxruntime is not installed", hint="pip install 'peftlab[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOWER_FUSIONS)
        )
    except Exception as error:  # noqa: BLE001 - its errors have no base class of their own
        raise UserError(f"the ONNX file cannot be read: {str(error).splitlines()[0]}", where=str(path)) from None

    def compute(batch: Mapping[str, Tensor]) -> Tensor:
        (logits,) = session.run(["logits"], {name: batch[name].numpy() for name in inputs})
        return torch.from_numpy(logits)

    return compute
