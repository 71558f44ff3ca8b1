"""Training of a head alone: what the frozen base makes of each example is computed once, and not in every epoch.

It is done where nothing but the head trains, the task says that one vector an example is enough (``by_row``), and a
batch has the same logits both ways. The order of examples, the steps and the loss stay the same, so the scores do too,
within rounding. A resumed run computes the vectors anew, in the same batches.

The record stays honest: the seconds, tokens and FLOPs of the pass count with those of the steps. Memory is measured on
whole steps before; the pass takes no more. The vectors lie beside the data, and the record tells their size.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from peftlab.acceleration.accelerated import accelerated, is_off, switched_off
from peftlab.core.amounts import size
from peftlab.core.generators import kept_generators
from peftlab.core.in_mode import in_mode
from peftlab.core.method import MethodContext
from peftlab.core.splits import EncodedSplit, Example
from peftlab.preparation.loading import Loader
from peftlab.preparation.rehearsal import rehearse_flops
from peftlab.run.run_context import RunContext
from peftlab.training.job import TrainingJob
from peftlab.training.known_base import KnownBase, Reading, base_of, in_place_of_base, joined, outputs_of, vectors_of
from peftlab.training.reload_guards import trains_only_heads

MOST_BYTES = 1 << 30
"""Of all vectors; with more the base computes in every step."""
PART = "frozen_base"
"""What the record's ``acceleration`` calls it."""
BY_ROW = ("train", "validation")
"""The splits that a training reads in every epoch."""


class _CannotError(Exception):
    """Why a head cannot train by vectors alone."""


@contextlib.contextmanager
def head_alone(
    run: RunContext, loader: Loader, job: TrainingJob, context: MethodContext
) -> Iterator[tuple[TrainingJob, dict[str, int | str]]]:
    """A job that trains the head on vectors, as long as the context lasts, where that can be done.

    Args:
        run: What all stages know.
        loader: Its splits are replaced meanwhile by those of rows.
        job: As it is without.
        context: What the method was told.

    Yields:
        The job, the same one where it cannot be done; and what the record says of it.
    """
    model = job.bare_model
    if not trains_only_heads(model, context.head_modules) or not job.plan.comes_back or is_off(model):
        yield job, {}
        return
    if job.hooks.need_unlabeled:
        yield job, {PART: "computed in every step: texts without labels are read too"}
        return
    own = dict(loader.splits)
    try:
        began = time.perf_counter()
        splits = _by_row(job, {name: own[name] for name in BY_ROW if name in own})
        known, parts = _Pass(run, loader, job, context).compute(splits)
        told = f"computed once: {sum(map(len, splits.values())):,} examples in {time.perf_counter() - began:.1f} s"
    except _CannotError as reason:
        run.reporter.say(f"the frozen base computes in every step: {reason}")
        yield job, {PART: f"computed in every step: {reason}"}
        return
    loader.splits.update(splits)
    alone = replace(job, split=splits["train"], graphs=None)
    if job.graphs is not None:
        job.graphs.problem = "the head computes alone in a step"
    try:
        with in_place_of_base(model, known), switched_off(model):
            job.meter.head_alone(rehearse_flops(alone) if run.recipe.measure else None)
            yield alone, {**parts, PART: f"{told}, {size(known.bytes)} kept"}
    finally:
        loader.splits.update(own)


def _by_row(job: TrainingJob, splits: Mapping[str, EncodedSplit]) -> dict[str, EncodedSplit]:
    """The splits by the numbers of their rows, which go on from split to split.

    Raises:
        _CannotError: The task, a hook or the way of computing needs the base in every step.
    """
    if job.world.size > 1:
        raise _CannotError("several processes share the steps")
    if (hook := job.hooks.not_replayable()) is not None:
        raise _CannotError(f"`{hook}` may change what the base computes")
    changed: dict[str, EncodedSplit] = {}
    before = 0
    for name, split in splits.items():
        examples = [_numbered(job, example, before + row) for row, example in enumerate(split.examples)]
        changed[name] = replace(split, examples=examples)
        before += len(examples)
    return changed


class _Pass:
    """The base's way through the examples.

    Args:
        run: What all stages know.
        loader: With the data.
        job: Whose batches are computed.
        context: What the method was told.

    Raises:
        _CannotError: The base is none that a stand-in is known for.
    """

    def __init__(self, run: RunContext, loader: Loader, job: TrainingJob, context: MethodContext) -> None:
        self._run, self._loader, self._job = run, loader, job
        self._model = job.bare_model
        self._inference = run.inference(loader.tokenizer)
        base = base_of(self._model)
        if base is None or run.recipe.model.offload is not None or run.placement.shards:
            raise _CannotError("the base is not one module on the device")
        prefix = f"{self._model.base_model_prefix}."
        if any(f"{head}.".startswith(prefix) for head in context.head_modules):
            raise _CannotError("a part of it is new, and trains")
        if any(isinstance(module, _BatchNorm) for module in base.modules()):
            raise _CannotError("its batch norms go by the batch")
        self._base = base
        self._readings: tuple[Reading, ...] = ("last" if context.family == "decoder" else "first", "mean")

    def compute(self, by_row: Mapping[str, EncodedSplit]) -> tuple[KnownBase, dict[str, int | str]]:
        """The vectors of all rows, and which parts of the base computed faster.

        Raises:
            _CannotError: The logits of a batch are others, or there are too many vectors.
        """
        count, started = sum(map(len, by_row.values())), 0
        order: list[int] = []
        found: list[KnownBase] = []
        self._run.reporter.start("reading each example once", count)
        try:
            with accelerated(self._model) as parts, torch.no_grad(), in_mode(self._model):
                reading = self._reading(by_row["train"], count)
                for name, rows in by_row.items():
                    split = self._loader.splits[name]
                    with self._run.findings.clock.phase("train" if name == "train" else "evaluate"):
                        for positions in self._batches(name, split):
                            examples = [split.examples[at] for at in positions]
                            found.append(self._vectors(examples, reading, is_timed=name == "train"))
                            order += [started + at for at in positions]
                            self._run.reporter.advance(len(positions))
                            self._run.interrupts.check()
                    started += len(rows)
        finally:
            self._run.reporter.finish()
        return joined(found, order), parts

    def _batches(self, name: str, split: EncodedSplit) -> list[list[int]]:
        """Those of the first epoch, or of evaluation."""
        if name == "train":
            return self._job.micro_batches.split(self._job.plan.plan_epoch(0))
        return self._run.recipe.evaluation_batches(self._job.task.lengths(split.examples))

    def _vectors(self, examples: Sequence[Example], reading: Reading, *, is_timed: bool) -> KnownBase:
        """What the head reads of a batch; the meter is told of training examples, as evaluation does not count."""
        job = self._job
        if is_timed:
            job.meter.step_started()
        batch = job.task.collate(examples, job.pad_token_id)
        with outputs_of(self._base) as outputs:
            self._logits(batch)
        vectors = vectors_of(outputs[0], batch, reading)
        if is_timed:
            job.meter.pass_ended(job.task.lengths(examples), job.task.padded_tokens(batch))
        return vectors

    def _reading(self, by_row: EncodedSplit, count: int) -> Reading:
        """Which states the head reads: those with which a batch has the same logits, in training too."""
        job, split = self._job, self._loader.splits["train"]
        positions = self._batches("train", split)[0]
        batch = job.task.collate([split.examples[at] for at in positions], job.pad_token_id)
        numbered = job.task.collate([_numbered(job, split.examples[at], row) for row, at in enumerate(positions)], 0)
        with kept_generators():
            self._model.train()
            training = self._logits(batch)
        self._model.eval()
        with outputs_of(self._base) as outputs:
            wanted = self._logits(batch)
        if not _same(training, wanted):
            raise _CannotError("it computes otherwise in training, as with dropout")
        for reading in self._readings:
            known = vectors_of(outputs[0], batch, reading)
            if known.bytes * count > MOST_BYTES * len(positions):
                raise _CannotError(f"its vectors would take more than {size(MOST_BYTES)}")
            # A head that is zero would agree with everything, and so with other vectors too.
            if _same(self._by(known, numbered), wanted) and not _same(self._by(known.negated(), numbered), wanted):
                return reading
        raise _CannotError("the head reads more of it than one vector an example")

    def _by(self, known: KnownBase, numbered: Mapping[str, Tensor]) -> Tensor:
        """The logits with a stand-in for the base.

        Raises:
            _CannotError: The head asks for more than outputs.
        """
        try:
            with in_place_of_base(self._model, known):
                return self._logits(numbered)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise _CannotError(f"the head does not compute without it ({error})") from None

    def _logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self._inference.compute(self._job.task.logits, self._model, batch)


def _numbered(job: TrainingJob, example: Example, row: int) -> Example:
    """An example with a row's number in place of what the base reads.

    Raises:
        _CannotError: The task needs more than one vector an example.
    """
    if (own := job.task.by_row(example, row)) is None:
        raise _CannotError("the task needs more of it than one vector an example")
    return own


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether logits are the same within the rounding of their type."""
    if one.shape != other.shape:
        return False
    tolerance = 1e-4 if one.dtype == torch.float32 else 1e-2
    return float((one - other).abs().max()) <= tolerance * max(1e-3, float(other.abs().max()))
