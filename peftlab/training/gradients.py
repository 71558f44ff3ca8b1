"""The gradients of one step: forward and backward of all its batches, within the memory that there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftlab.core.errors import UnsupportedError
from peftlab.core.generators import generator_states, restore_generators
from peftlab.core.hooks import Backward, LossFunction
from peftlab.training.batches_ahead import collate
from peftlab.training.evaluation import to_device
from peftlab.training.gradient_cache import GradientCache
from peftlab.training.micro_batches import is_out_of_memory
from peftlab.training.steps import Step

if TYPE_CHECKING:
    from peftlab.training.job import TrainingJob


def accumulate_within_memory(job: TrainingJob, step: Step) -> tuple[Tensor, Work]:
    """This process's part of a step's gradients.

    Where memory runs out, in whichever process, all begin the step again: without graphs where they held some of it,
    else with half as many examples at once.

    Returns:
        Its part of the mean loss, and what the step was.
    """
    while True:
        part, make = partial(_part_of, job), partial(make_batches, job)
        pieces = part(step.batches)
        idle = _idle(job, step, len(pieces))
        batches = job.ahead.take(pieces, part, make) if job.ahead else make(pieces)
        work = _work_of(job, batches)
        before = generator_states() if job.micro_batches.may_shrink or job.graphs is not None else {}
        failure: RuntimeError | MemoryError | None = None
        try:
            loss = accumulate_gradients(job, batches, work.terms)
            for batch in idle:
                _compute(job, to_device(batch, job.accelerator.device), math.inf, with_penalty=False)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or job.world.keeps_pace or _compares(job):  # others wait elsewhere
                raise
            failure = error.with_traceback(None)
        if not job.world.any(failure is not None):
            return loss, work
        if not _takes_less_memory(job, step):
            raise failure or torch.OutOfMemoryError("memory ran out in another process")
        # Here the error is gone, and with it the tensors that its traceback held.
        job.optimizer.zero_grad(set_to_none=True)
        restore_generators(before)
        if job.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()


def _takes_less_memory(job: TrainingJob, step: Step) -> bool:
    """Make the next try need less memory; whether that can be."""
    if job.graphs is not None and job.graphs.give_up_memory():
        return True
    return job.micro_batches.may_shrink and job.micro_batches.halve(job.world.share(step.batches, rank=0))


def _part_of(job: TrainingJob, batches: Sequence[Sequence[int]]) -> list[list[int]]:
    """What this process computes of a step's batches, in pieces that are computed at once."""
    return job.micro_batches.split(batches if _compares(job) else job.world.share(batches))


def _idle(job: TrainingJob, step: Step, count: int) -> list[dict[str, Tensor]]:
    """Batches that this process computes for nothing, so that it does as many passes as the first one, which has most.

    Args:
        job: Whose model computes.
        step: The whole one.
        count: Of the batches that are its own.
    """
    if not job.world.keeps_pace or job.world.is_first:
        return []
    return make_batches(job, job.micro_batches.split(job.world.share(step.batches, rank=0))[count:])


def make_batches(job: TrainingJob, pieces: Sequence[Sequence[int]]) -> list[dict[str, Tensor]]:
    """The batches of some positions in the training split, of the lengths that graphs are for where there are any."""
    batches = collate(job.task, job.split, pieces, job.pad_token_id)
    return batches if job.graphs is None else [job.graphs.lengthened(batch) for batch in batches]


@dataclass(frozen=True)
class Work:
    """What a step was, over all processes.

    Args:
        terms: Of its loss.
        padded_tokens: All tokens that the model was given.
    """

    terms: int
    padded_tokens: int


def _work_of(job: TrainingJob, batches: Sequence[Mapping[str, Tensor]]) -> Work:
    """What a step is, from this process's part of it; where all have the whole, the first one's counts."""
    batches = batches if job.world.is_first or not _compares(job) else ()
    terms, padded = job.world.sum(
        sum(job.task.loss_terms(batch) for batch in batches),
        sum(job.task.padded_tokens(batch) for batch in batches),
    )
    return Work(int(terms), int(padded))


def accumulate_gradients(job: TrainingJob, batches: Sequence[Mapping[str, Tensor]], terms: int | None = None) -> Tensor:
    """Forward and backward of some batches of one step.

    Args:
        job: Whose model computes.
        batches: All of the step, or this process's part.
        terms: Of the whole step's loss; None: the step has no other batches.

    Returns:
        The sum of their loss by the terms of the step: the mean, where these are all batches.
    """
    if terms is None:
        terms = sum(job.task.loss_terms(batch) for batch in batches)
    terms = max(1, terms)
    total = torch.zeros((), device=job.accelerator.device)
    for number, batch in enumerate(batches, start=1):
        last = number == len(batches)
        # Of all processes one adds the penalty.
        with_penalty = last and job.world.is_first
        synchronised: AbstractContextManager[Any] = nullcontext() if last else job.accelerator.no_sync(job.model)
        with synchronised:
            parts = _parts(job, batch)
            if job.graphs is None or parts:
                on_device = to_device(batch, job.accelerator.device)
                total += _compute(job, on_device, terms, with_penalty=with_penalty, parts=parts)
            else:
                total += _replay(job, batch, terms, with_penalty=with_penalty)
    return total


def _compares(job: TrainingJob) -> bool:
    """Whether several processes compute the parts of batches whose loss compares all their examples."""
    return job.world.size > 1 and not job.micro_batches.cuts_batches


def _parts(job: TrainingJob, batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """What a batch is computed in whose loss needs all of it; empty where it is computed at once."""
    size = job.micro_batches.size
    if _compares(job):
        most = math.ceil(job.task.loss_terms(batch) / job.world.size)
        return job.task.parts(batch, most if size is None else min(size, most))
    if job.micro_batches.cuts_batches or size is None:
        return []
    parts = job.task.parts(batch, size)
    if len(parts) == 1:
        return []
    if job.hooks.are_around:  # where memory has run out; a recipe that says so from the start is refused before
        raise UnsupportedError(
            "a regularizer works around the whole backward pass, which is not computed in parts",
            where="training.micro_batch_size",
            hint="Set training.batch_size to fewer, or leave the regularizer out.",
        )
    return parts


def _compute(
    job: TrainingJob,
    on_device: Mapping[str, Tensor],
    terms: float | Tensor,
    *,
    with_penalty: bool,
    parts: Sequence[Mapping[str, Tensor]] = (),
) -> Tensor:
    if not job.hooks.are_around:
        return _backward(job, on_device, terms, with_penalty=with_penalty, parts=parts)()
    # Apart from what hooks do around the pass: other weights or masked gradients are not for the penalty.
    backward = _backward(job, on_device, terms, with_penalty=False, parts=parts)
    loss = job.hooks.around(backward, job.bare_model, on_device)
    if with_penalty:
        _go_back_on_penalty(job)
    return loss


def _go_back_on_penalty(job: TrainingJob) -> None:
    penalty = job.hooks.penalty(job.bare_model)
    if penalty is not None:
        job.accelerator.backward(penalty)


def _replay(job: TrainingJob, batch: Mapping[str, Tensor], terms: int, *, with_penalty: bool) -> Tensor:
    """As `_compute`, by a graph where there is one; the penalty, which changes with its hook, is never in it."""
    graphs = job.graphs
    assert graphs is not None  # noqa: S101 - the caller has checked it
    # A card divides by a number on the host in another way than by one of its own: a graph has only the latter.
    terms_there = torch.full((), float(terms), device=job.accelerator.device)

    def loss_of(on_device: Mapping[str, Tensor], divisor: Tensor) -> Tensor:
        with job.accelerator.autocast():
            return job.task.training_loss(job.model, on_device) / divisor

    def plainly() -> Tensor:
        return _compute(job, graphs.on_device(batch), terms_there, with_penalty=False)

    loss = graphs.compute(batch, terms_there, loss_of, plainly)
    if with_penalty:
        _go_back_on_penalty(job)
    return loss


def _backward(
    job: TrainingJob,
    batch: Mapping[str, Tensor],
    terms: float | Tensor,
    *,
    with_penalty: bool,
    parts: Sequence[Mapping[str, Tensor]],
) -> Backward:
    """The forward and backward pass of a batch; the penalty is in the first one only, however many there will be."""
    is_due = with_penalty
    cache = GradientCache(job.task, parts, job.accelerator, job.world) if parts else None

    def run(loss_of: LossFunction, weight: float) -> Tensor:
        nonlocal is_due
        with job.accelerator.autocast():
            whole = loss_of(job.model, batch) if cache is None else cache.loss(job.model, batch)
            loss = whole / terms
        mean = loss.detach()
        loss = loss if weight == 1 else loss * weight
        if is_due:
            is_due = False
            penalty = job.hooks.penalty(job.bare_model)
            loss = loss if penalty is None else loss + penalty
        job.accelerator.backward(loss)
        if cache is not None:
            cache.carry_on(job.model)
        return mean if job.world.is_first or not _compares(job) else torch.zeros_like(mean)  # all have the whole loss

    return Backward(job.task, job.task.training_loss, 1.0, run)
