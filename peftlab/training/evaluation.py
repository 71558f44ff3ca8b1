"""Evaluation: logits to predictions to metrics, a batch at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from peftlab.acceleration.accelerated import accelerated
from peftlab.acceleration.device import device_type_of
from peftlab.acceleration.masks import note_padding
from peftlab.core.errors import RunFailedError
from peftlab.core.files import atomic_file
from peftlab.core.given_values import check_count
from peftlab.core.in_mode import in_mode
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Prediction, Result, Scorer, Task
from peftlab.training.sharding import gathered_root
from peftlab.training.world import World

NOT_FINITE = "the model gives logits that are not finite"


class DivergedError(RunFailedError):
    """A loss or a score is no finite number any more."""


@dataclass(frozen=True)
class TorchInference:
    """How a run asks its model; see :class:`peftlab.interfaces.Inference`.

    Args:
        tokenizer: Of the base model.
        labels: Names of the classes.
        device: Where the model is.
        metric: The only metric that is asked for; None: all.
        virtual_tokens: Positions that the method puts before the text.
        autocast_dtype: Type to compute in; None: the weights' own.
    """

    tokenizer: Any
    labels: tuple[str, ...]
    device: torch.device
    metric: str | None = None
    virtual_tokens: int = 0
    autocast_dtype: torch.dtype | None = None

    def compute(
        self, function: Callable[[Any, Mapping[str, Tensor]], Result], model: nn.Module, batch: Mapping[str, Tensor]
    ) -> Result:
        """Run a function on the model's device.

        Raises:
            DivergedError: A number of the result is not finite.
        """
        result = run_on_device(function, model, batch, device=self.device, autocast_dtype=self.autocast_dtype)
        for item in tree_iter(result):
            if isinstance(item, Tensor) and not torch.isfinite(item).all():
                raise DivergedError(NOT_FINITE)
        return result


@dataclass(frozen=True)
class _Evaluated:
    """What is known of a batch when it has been evaluated."""

    predictions: Sequence[Prediction]
    loss: float
    terms: int
    kept: tuple[Tensor, Mapping[str, Tensor]] | None = None

    @classmethod
    def of_predictions(cls, predictions: Sequence[Prediction]) -> Self:
        """What a task says that does not predict from logits: some of its predictions have a loss."""
        measured = [found for found in predictions if found.loss is not None]
        return cls(predictions, sum(found.loss or 0.0 for found in measured), sum(it.loss_terms for it in measured))


class TakesPredictions(Protocol):
    """Keeps predictions as they come."""

    def write(self, split: str, index: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Take the predictions of a batch, and the source's row of each."""


class PredictionWriter:
    """Writes ``predictions.parquet`` as the predictions come; the file appears when the block ends without an error.

    Columns: ``split``, ``index`` (the row in the source table), ``label``, ``prediction``, ``scores``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = contextlib.ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        self._partial = self._stack.enter_context(atomic_file(self._path))
        return self

    def write(self, split: str, index: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Append the predictions of a batch."""
        table = pa.table(
            {
                "split": [split] * len(index),
                "index": pa.array(index, pa.int64()),
                "label": [item.label for item in predictions],
                "prediction": [item.prediction for item in predictions],
                "scores": pa.array([list(item.scores) for item in predictions], pa.list_(pa.float32())),
            },
            schema=self._writer.schema if self._writer else None,
        )
        if self._writer is None:
            self._writer = self._stack.enter_context(pq.ParquetWriter(self._partial, _without_nulls(table.schema)))
            table = table.cast(self._writer.schema)
        self._writer.write_table(table)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._writer is None:
            self.write("", [], [])
        self._stack.__exit__(kind, error, traceback)


def _without_nulls(schema: pa.Schema) -> pa.Schema:
    """A first batch of empty lists (multi-label) has lists of nothing; later ones hold strings."""
    fields = [
        pa.field(field.name, pa.list_(pa.string())) if field.type == pa.list_(pa.null()) else field for field in schema
    ]
    return pa.schema(fields)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    task: Task,
    split: EncodedSplit,
    batches: Sequence[Sequence[int]],
    *,
    pad_token_id: int,
    inference: TorchInference,
    writer: TakesPredictions | None = None,
    after_batch: Callable[[int], None] | None = None,
    keep_logits: Callable[[Tensor, Mapping[str, Tensor]], None] | None = None,
    with_loss: bool = False,
    scorer: Scorer | None = None,
    world: World | None = None,
) -> dict[str, float]:
    """Metrics of a model on a split.

    Several processes evaluate a batch each, and take all results in the order of the batches: each has all scores.

    Args:
        model: In whatever mode; it is evaluated in eval mode and left as it was.
        task: Turns examples into batches and logits into predictions.
        split: The encoded examples.
        batches: Positions in the split, each once.
        pad_token_id: For padding.
        inference: How the model is asked.
        writer: Takes the predictions.
        after_batch: Called with the number of examples of each batch; may raise to stop.
        keep_logits: Takes the logits and the batch that they are of, on CPU.
        with_loss: Whether the mean loss is among the scores, as it always is for tasks that measure it anyway.
        scorer: Fresh metrics; None: the task's.
        world: The processes that have this model; None: this one.

    Returns:
        The metrics. Metrics that are not defined on this split are left out.

    Raises:
        DivergedError: A logit is not finite.
    """
    scorer = scorer or task.scorer(inference.labels)
    needs_logits = keep_logits is not None or (with_loss and task.predicts_from_logits)
    loss, terms = 0.0, 0
    whole: dict[int, Prediction] = {}  # where each prediction depends on all

    def compute(positions: Sequence[int]) -> _Evaluated:
        examples = [split.examples[position] for position in positions]
        if not needs_logits:
            return _Evaluated.of_predictions(task.predict_examples(model, examples, pad_token_id, inference))
        batch = task.collate(examples, pad_token_id)
        logits = inference.compute(task.logits, model, batch).cpu()
        return _Evaluated(
            task.predict(logits, batch, inference.labels),
            float(task.loss(logits, batch)) if with_loss else 0.0,
            task.loss_terms(batch) if with_loss else 0,
            None if keep_logits is None else (logits, batch),
        )

    def take(positions: Sequence[int], predictions: Sequence[Prediction]) -> None:
        scorer.add(predictions)
        if writer is not None:
            writer.write(split.name, [split.index[position] for position in positions], predictions)

    with in_mode(model), accelerated(model), gathered_root(model):
        each = (world or World()).map(compute, batches, passes_vary=task.generates_text)
        for positions, found in zip(batches, each, strict=True):
            check_count(found.predictions, len(positions), what=f"predict of {task.registered_name}")
            loss += found.loss
            terms += found.terms
            if keep_logits is not None and found.kept is not None:
                keep_logits(*found.kept)
            if task.ranks_whole_split:
                whole.update(zip(positions, found.predictions, strict=True))
            else:
                take(positions, found.predictions)
            if after_batch is not None:
                after_batch(len(positions))
    if whole:
        take(sorted(whole), task.rank([whole[position] for position in sorted(whole)]))
    scores = {**scorer.compute(), **({"loss": loss / terms} if with_loss and terms else {})}
    # A score that is no number is none: compared with it, no later one would be better.
    return {name: score for name, score in scores.items() if not math.isnan(score)}


def compute_logits(
    model: nn.Module,
    task: Task,
    batch: Mapping[str, Tensor],
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None,
) -> Tensor:
    """The logits of a batch, on the model's device."""
    return run_on_device(task.logits, model, batch, device=device, autocast_dtype=autocast_dtype)


def run_on_device(
    function: Callable[[Any, Mapping[str, Tensor]], Result],
    model: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    device: torch.device,
    autocast_dtype: torch.dtype | None,
) -> Result:
    """A function of model and batch, in the precision of the computation."""
    on_device = to_device(batch, device)
    context: Any = contextlib.nullcontext()
    if autocast_dtype is not None:
        context = torch.autocast(device.type, autocast_dtype)
    with context:
        return function(model, on_device)


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch on a device, without waiting for it; on a card its mask knows whether it masks anything."""
    moved = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    if any(device_type_of(value) == "cuda" for value in moved.values()):
        note_padding(batch, moved)
    return moved
