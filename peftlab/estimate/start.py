"""The memory of methods that look at training rows before the first step: what they hold beside the model meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from peftlab.core.errors import DataError
from peftlab.core.hooks import TrainingHooks
from peftlab.core.splits import Example
from peftlab.core.task import Task
from peftlab.core.tensors import model_tensors
from peftlab.estimate.task import TaskOnShapes
from peftlab.measurement.caching_allocator import CachingAllocator
from peftlab.measurement.memory import peak_of
from peftlab.training.rows_ahead import MOST_AT_ONCE, EncodedRows

NEEDS_VALUES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
"""What torch raises where shapes do not tell how to go on."""


class RowsOnShapes(EncodedRows):
    """The same rows twice: with the second batch what was found before lies beside what is found then.

    Args:
        task: As the recipe names it.
        examples: Of both batches.
        shapes: The task on shapes.
        autocast_dtype: Type to compute in; None: the weights' own.
    """

    def __init__(
        self, task: Task, examples: Sequence[Example], shapes: TaskOnShapes, autocast_dtype: torch.dtype | None
    ) -> None:
        super().__init__(task, examples, 0, torch.device("cpu"), seed=0, autocast_dtype=autocast_dtype)
        self._shapes = shapes

    def _made(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        return self._shapes.collate(examples, self._pad)

    def _drawn(self, count: int) -> list[list[Example]]:
        return [list(self._examples)] * 2


def peak_at_start(
    hooks: Sequence[TrainingHooks],
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    *,
    mode: FakeTensorMode,
    autocast_dtype: torch.dtype | None,
    allocator: CachingAllocator | None,
) -> int | None:
    """The peak while hooks look at rows; None where none does.

    One that goes by values is followed as far as shapes tell. Until then the largest part is there: what the layers
    read of a batch.

    Args:
        hooks: Of the run.
        model: Of fake tensors; it begins.
        task: As the recipe names it.
        examples: That are read at once, if there are not too many.
        mode: Makes the shapes; it has been entered.
        autocast_dtype: Type to compute in; None: the weights' own.
        allocator: Of the device; None: of CPU.
    """
    looking = [hook for hook in hooks if hook.needs_rows]
    if not looking:
        return None
    shapes = TaskOnShapes(task, mode, autocast_dtype)
    rows = RowsOnShapes(task, examples[:MOST_AT_ONCE], shapes, autocast_dtype)

    def look() -> None:
        for hook in looking:
            with contextlib.suppress(*NEEDS_VALUES, DataError):  # as far as shapes tell
                hook.take_rows(model, rows)

    return peak_of(look, device=torch.device("cpu"), existing=model_tensors(model), allocator=allocator)[1]
