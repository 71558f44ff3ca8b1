"""Untimed steps before training: its memory by category, and the FLOPs that its tokens call for.

The rehearsal works on the real model and leaves no trace: parameters, random generators and the hooks' states are put
back afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.acceleration.accelerated import accelerated
from peftlab.core.generators import kept_generators
from peftlab.core.record import Memory
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Inference
from peftlab.core.tensors import model_tensors
from peftlab.measurement.memory import measure_training_memory, peak_of
from peftlab.measurement.roofline import StepFlops, fit_step_flops
from peftlab.training.checkpoints import restore_parameters, trainable_parameters
from peftlab.training.gradients import accumulate_gradients
from peftlab.training.guards import GradientGuard
from peftlab.training.job import TrainingJob
from peftlab.training.loop import optimizer_step
from peftlab.training.optimizers import build_optimizer
from peftlab.training.sharding import gathered_root
from peftlab.training.world import World

SAMPLES = 6
"""Texts of different lengths whose FLOPs are counted."""


def rehearse_memory(job: TrainingJob) -> Memory:
    """Two steps on the longest batch, under a watcher of every live tensor.

    Args:
        job: As it will be trained. A throw-away optimizer takes the place of its own.
    """
    # Methods with a schedule do each step's work: the rehearsal is of the first one, whichever texts it borrows.
    step = replace(job.plan.longest_step(job.task.lengths(job.split.examples)), number=1)
    optimizer = build_optimizer(job.model, job.config, job.learning_rate, hooks=job.hooks)
    texts = job.hooks.pairs_of("longest")
    with _without_trace(job), texts, _in_place_of_own(job, optimizer) as prepared, accelerated(job.model):
        trial = replace(job, optimizer=prepared, gradients=GradientGuard(job.model))
        return measure_training_memory(
            lambda: optimizer_step(trial, step),
            model=job.model,
            optimizer=optimizer,
            device=job.accelerator.device,
            existing=job.hooks.state(job.bare_model).values(),
            reference=None if job.roll_outs is None else job.roll_outs.reference,
        )


def rehearse_flops(job: TrainingJob) -> StepFlops:
    """The FLOPs of a training step as a function of the lengths of its texts and of the terms of its loss."""
    by_length: dict[int, int] = {}
    for position, length in enumerate(job.task.lengths(job.split.examples)):
        by_length.setdefault(length, position)
    known = sorted(by_length)
    lengths = sorted({known[round(place * (len(known) - 1) / (SAMPLES - 1))] for place in range(SAMPLES)})

    def batch_of(length: int, texts: int) -> dict[str, Tensor]:
        return job.task.collate([job.split.examples[by_length[length]]] * texts, job.pad_token_id)

    alone = replace(job, world=World())

    def run(length: int, texts: int) -> None:
        accumulate_gradients(alone, [batch_of(length, texts)])
        job.optimizer.zero_grad(set_to_none=True)

    whole, texts = _without_checkpointing(job.bare_model), job.hooks.pairs_of("median")
    with _without_trace(job), whole, texts, accelerated(job.model):
        terms = [job.task.loss_terms(batch_of(length, 1)) for length in lengths]
        return fit_step_flops(run, lengths, terms if len(set(terms)) > 1 else ())


def rehearse_evaluation(job: TrainingJob, split: EncodedSplit, batches: list[list[int]], inference: Inference) -> int:
    """The peak of live bytes while the batch with the most tokens is evaluated, the model included."""
    lengths = job.task.lengths(split.examples)
    largest = max(batches, key=lambda batch: len(batch) * max(lengths[position] for position in batch))
    examples = [split.examples[position] for position in largest]

    def run() -> None:
        job.task.predict_examples(job.model, examples, job.pad_token_id, inference)

    job.model.eval()
    try:
        with (
            torch.no_grad(),
            gathered_root(job.model),
        ):  # under inference_mode the watcher would not see into composite operations
            return peak_of(run, device=job.accelerator.device, existing=model_tensors(job.model))[1]
    finally:
        job.model.train()


@contextlib.contextmanager
def _in_place_of_own(job: TrainingJob, optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    """Another optimizer in accelerate's hands, as long as the context lasts.

    accelerate keeps every optimizer that it has prepared, with its state, and unscales the gradients for each of them.
    """
    own = job.accelerator._optimizers
    job.accelerator._optimizers = []
    try:
        yield job.accelerator.prepare(optimizer)
    finally:
        job.accelerator._optimizers = own


@contextlib.contextmanager
def _without_trace(job: TrainingJob) -> Iterator[None]:
    model = job.bare_model
    # Kept on CPU: a copy of a fully tuned model on the device would be measured, or not fit.
    parameters = {name: value.detach().to("cpu", copy=True) for name, value in trainable_parameters(model).items()}
    state = {name: value.clone() for name, value in job.hooks.state(model).items()}
    scaler = job.accelerator.scaler
    scaling: dict[str, Any] = {} if scaler is None else scaler.state_dict()
    if scaler is not None:  # at its first scale it skips steps, and a step that is skipped shows no optimizer's state
        scaler.load_state_dict({**scaling, "scale": 1.0})
    job.model.train()
    with kept_generators():
        yield
    for parameter in model.parameters():
        parameter.grad = None
    restore_parameters(model, parameters)
    job.hooks.restore(model, state)
    if scaler is not None:
        scaler.load_state_dict(scaling)


@contextlib.contextmanager
def _without_checkpointing(model: nn.Module) -> Iterator[None]:
    """Recomputed activations are a price of saving memory, not FLOPs that the step calls for."""
    layers = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False) is True]
    for layer in layers:
        layer.gradient_checkpointing = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = True  # type: ignore[assignment]
