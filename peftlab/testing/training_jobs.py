"""Training jobs on tiny bases, with regularisers: for a classification task and for a language task."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from peftlab.core.config import Document
from peftlab.core.method import MethodContext
from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.splits import EncodedSplit
from peftlab.estimate.bare_job import Batch, bare_job
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.models.base_model import checkpoint_activations, load_base_model
from peftlab.preparation.check import CheckedModel, check_model
from peftlab.recipe.schema import build_recipe
from peftlab.regularizers.debiasing import GROUP
from peftlab.tasks.language.decoder import shifted
from peftlab.testing.broken_contract import require
from peftlab.training.accelerator import build_accelerator
from peftlab.training.checkpoints import CheckpointFolder
from peftlab.training.hooks import HookList
from peftlab.training.interrupts import Interrupts
from peftlab.training.job import TrainingJob
from peftlab.training.metrics_log import MetricsLog
from peftlab.training.optimizers import build_optimizer
from peftlab.training.steps import StepPlan

LABELS = ("a", "b")
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "text_classification": ("tiny_bert", {"type": "text_classification", "max_length": 24}),
    "instruction_tuning": ("tiny_gpt2", {"type": "instruction_tuning", "max_length": 24}),
}


def checked(
    folder: Path | str,
    task: dict[str, Any],
    regularizers: list[dict[str, Any]],
    *,
    dropout: float = 0.0,
    **settings: Any,
) -> CheckedModel:
    """A recipe whose task, method and model its regularisers take.

    Raises:
        UnsupportedError: One of them does not.
    """
    values: dict[str, Any] = {
        "model": {"path": str(folder), "dropout": dropout},
        "task": task,
        "data": {"source": "none.csv"},
        "method": {"type": "lora", "rank": 4},
        "training": {"batch_size": 4, "log_every_steps": 1, "regularizers": regularizers},
    }
    for key, value in settings.items():
        section, _, name = key.partition("__")
        values[section] = value if not name else {**values[section], name: value}
    if any(REGULARIZERS[each["type"]].needs_unlabeled for each in values["training"]["regularizers"]):
        changed = [{"type": "token_swap", "rows": "unlabeled"}]
        values["data"] = {"source": {"train": "none.csv", "unlabeled": "none.csv"}, "augmentation": changed}
    document = Document(source="test", values=values)
    return check_model(build_recipe(document, default_name="test"), document, offline=True, need_weights=False)


def examples_of(task: str, count: int = 8) -> list[dict[str, Any]]:
    """Encoded examples of different lengths."""
    drawn = random.Random(3)  # noqa: S311 - no secrets
    rows = [[drawn.randrange(5, 40) for _ in range(drawn.randrange(5, 14))] for _ in range(count)]
    if task == "text_classification":
        return [
            {"input_ids": ids, "label": position % 2, GROUP: position // 2 % 2} for position, ids in enumerate(rows)
        ]
    return [{"input_ids": ids, "labels": shifted(ids, 2)} for ids in rows]


def job_of(
    ready: CheckedModel,
    *,
    examples: list[dict[str, Any]] | None = None,
    steps: int = 6,
    folder: Path | None = None,
    stop_after: int | None = None,
    rate: float = 1e-2,
) -> TrainingJob:
    """A job of some steps, each of a batch of four and one of three; it always begins with the same weights.

    Args:
        ready: From :func:`checked`.
        examples: Encoded; None: those of the task.
        steps: Of the whole run.
        folder: For checkpoints; None: none are written.
        stop_after: The step after which the run is interrupted.
        rate: The peak learning rate.
    """
    recipe = ready.recipe
    torch.manual_seed(0)
    base = load_base_model(
        str(ready.model_location), recipe.model, recipe.task.head(LABELS), dtype=torch.float32,
        dropout=recipe.model.dropout, pad_token_id=0, offline=True,
    )  # fmt: skip
    context = MethodContext(
        recipe.task.peft_task_type, steps, head_modules=base.head_modules, family=ready.facts.family
    )
    model = recipe.method.apply(base.model, context)
    if recipe.training.gradient_checkpointing:
        checkpoint_activations(base.model, recipe.model)
    hooks = HookList.begin(recipe.training_hooks(), model, context)
    accelerator = build_accelerator(computation=None, tracking=[], folder=Path())
    optimizer = accelerator.prepare(build_optimizer(model, recipe.training, rate, hooks=hooks))
    task = hooks.training_task(recipe.task)
    examples = examples or examples_of(recipe.task.registered_name)
    pairs = list(zip(examples, examples[::-1], strict=True))
    batch = Batch(examples, task.lengths(examples), [[0, 1, 2, 3], [4, 5, 6]], pairs)
    job = bare_job(
        recipe, batch, model=model, optimizer=optimizer, accelerator=accelerator, task=task, hooks=hooks
    )  # fmt: skip
    interrupts = Interrupts()

    def on_step(step: int, _loss: float, _rate: float) -> None:
        interrupts.requested = step == stop_after

    if folder is None:
        folder = Path("/nonexistent")
    else:
        folder.mkdir(exist_ok=True)
    job.model.train()
    return replace(
        job,
        split=EncodedSplit("train", range(len(examples)), examples),
        plan=StepPlan(lambda _epoch: [list(each) for each in batch.step] * steps, 2, 1, None),
        learning_rate=rate,
        interrupts=interrupts,
        on_step=on_step,
        checkpoints=CheckpointFolder(folder),
        log=MetricsLog(folder / "metrics.jsonl"),
    )


def longest_batch(job: TrainingJob) -> Batch:
    """The batches of the job's largest step, as an estimate wants them."""
    examples, lengths = job.split.examples, job.task.lengths(job.split.examples)
    pairs = list(zip(examples, examples[::-1], strict=True))
    return Batch(examples, lengths, job.plan.longest_step(lengths).batches, pairs)


def shapes_of(ready: CheckedModel) -> ShapesOfRecipe:
    """The estimate of a recipe on this machine's processor."""
    return ShapesOfRecipe(ready, LABELS, Target("cpu", None))


def check_estimate(ready: CheckedModel, job: TrainingJob, measured: int, whose: str) -> None:
    """Compare the memory of a step, estimated from shapes, with that of a step that is taken.

    Args:
        ready: The recipe.
        job: Made of it.
        measured: The peak of its rehearsal, in bytes.
        whose: What is looked at, such as ``lora on tiny_bert``.

    Raises:
        BrokenContractError: They are more than three hundredths apart.
    """
    estimated = shapes_of(ready).memory(longest_batch(job)).memory.peak_bytes
    require(
        abs(estimated - measured) <= 0.03 * measured,
        f"{whose}: `peftlab estimate` says {estimated:,} bytes, and a step takes {measured:,}",
        hint="An estimate runs the same code on tensors without values: `apply` and hooks must do the same work, "
        "whatever the values are, and make their tensors with torch on the model's device.",
    )


def gradients_of(job: TrainingJob) -> dict[str, torch.Tensor]:
    """The gradients that are there, by name."""
    return {name: p.grad.clone() for name, p in job.model.named_parameters() if p.grad is not None}
