"""Training steps of peftlab outside a run: for the allocator's peak, and for the profiler."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from peftlab.core.config import Document
from peftlab.core.method import MethodContext
from peftlab.estimate.bare_job import Batch, bare_job, placeholder_batch
from peftlab.models.base_model import checkpoint_activations, load_base_model, local_source, resolve_dtype
from peftlab.preparation.check import CheckedModel, check_model
from peftlab.recipe.schema import build_recipe
from peftlab.training.accelerator import autocast_dtype, build_accelerator
from peftlab.training.job import TrainingJob
from peftlab.training.offload import Placement
from peftlab.training.optimizers import build_optimizer

LABELS = ("code", "prose")


def check(model: Path, task: Mapping[str, Any], method: Mapping[str, Any], **settings: Any) -> CheckedModel:
    """A recipe whose model has been looked at.

    Args:
        model: Its folder.
        task: The recipe's section.
        method: The recipe's section.
        settings: ``section__key=value`` each.
    """
    values: dict[str, Any] = {
        "model": {"path": str(model)},
        "task": dict(task),
        "data": {"source": "none.csv"},
        "method": dict(method),
        "training": {},
    }
    for key, value in settings.items():
        section, _, name = key.partition("__")
        values[section][name] = value
    document = Document(source="case", values=values)
    return check_model(build_recipe(document, default_name="case"), document, offline=True)


def batch_of(checked: CheckedModel, *, size: int, length: int) -> Batch:
    """A batch of texts as long as that."""
    return placeholder_batch(checked.recipe.task, LABELS, size=size, length=length)


@contextlib.contextmanager
def training_job(checked: CheckedModel, batch: Batch, device: torch.device) -> Iterator[TrainingJob]:
    """What a run would train, with its weights on the device."""
    recipe, method = checked.recipe, checked.recipe.method
    dtype = resolve_dtype(recipe.model.dtype, device=device, base_is_frozen=not method.trains_base)
    computation = autocast_dtype(recipe.training.precision, device=device, weights=dtype)
    torch.manual_seed(0)
    base = load_base_model(
        local_source(checked.model_location),
        recipe.model,
        recipe.task.head(LABELS),
        dtype=dtype,
        dropout=None if method.trains_base else 0.0,
        pad_token_id=0,
        offline=True,
    )
    context = MethodContext(
        recipe.task.peft_task_type, 1000, head_modules=base.head_modules, family=checked.facts.family
    )
    model = method.apply(base.model, context)
    if recipe.training.gradient_checkpointing:
        checkpoint_activations(base.model, recipe.model)
    accelerator = build_accelerator(computation=computation, tracking=[], folder=Path())
    with (
        tempfile.TemporaryDirectory() as files,
        Placement(recipe.model.offload, device=device, folder=Path(files)) as placement,
    ):
        optimizer = build_optimizer(placement.place(model), recipe.training, 1e-4)
        prepared, optimizer = accelerator.prepare(model, optimizer, device_placement=[False, True])
        yield bare_job(recipe, batch, model=prepared, optimizer=optimizer, accelerator=accelerator, task=recipe.task)
