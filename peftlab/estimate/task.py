"""A task on shapes: its batches are made of real numbers, and then lose them.

How many labels a batch has, and whether there is padding, cannot be seen from shapes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from peftlab.acceleration.masks import HAS_PADDING
from peftlab.acceleration.texts import TEXTS, find_texts
from peftlab.core.generators import kept_generators
from peftlab.core.splits import Example
from peftlab.core.task import Inference, Prediction, Result, Task
from peftlab.training.evaluation import run_on_device

TERMS = "_peftlab_terms"
"""The attribute of a batch's first tensor that tells how many terms its loss has; it stays when a batch moves."""


class TaskOnShapes:
    """A task whose batches are made of real numbers, which are then replaced by shapes.

    Args:
        task: The recipe's.
        mode: Makes the shapes.
        autocast: Type to compute in; None: the weights' own.

    Attributes:
        most_terms: Of the loss, in the largest batch so far.
    """

    def __init__(self, task: Task, mode: FakeTensorMode, autocast: torch.dtype | None) -> None:
        self._task, self._mode, self._autocast = task, mode, autocast
        self.most_terms = 0

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """A batch of fake tensors, whose terms have been counted."""
        with unset_fake_temporarily(), kept_generators():
            torch.manual_seed(0)  # what a batch draws, such as masks, is the same in every estimate
            batch = self._task.collate(examples, pad_token_id)
            terms = self._task.loss_terms(batch)
        self.most_terms = max(self.most_terms, terms)
        fake = self._without_values(batch)
        setattr(_first(fake), TERMS, terms)
        return fake

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """What was counted."""
        terms: int = getattr(_first(batch), TERMS)
        return terms

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """What the task computes first, as shapes; what that means, and so what it computes next, needs values."""
        with contextlib.suppress(_ComputedError), unset_fake_temporarily():
            self._task.predict_examples(
                model, examples, pad_token_id, cast("Inference", _ComputesOnce(inference, self._compute))
            )
        return []

    def _compute(self, function: Callable[..., Any], model: nn.Module, batch: Mapping[str, Tensor]) -> None:
        with self._mode:
            fake = self._without_values(batch)
            run_on_device(function, model, fake, device=torch.device("cpu"), autocast_dtype=self._autocast)

    def _without_values(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with unset_fake_temporarily():
            mask = batch.get("attention_mask")
            has_padding = mask is not None and not bool(mask.all())
            texts = find_texts(batch)
        with self._mode:
            fake = {key: torch.empty(value.shape, dtype=value.dtype) for key, value in batch.items()}
            if texts is not None:
                texts = replace(texts, numbers=torch.empty_like(texts.numbers))
        if mask is not None:
            setattr(fake["attention_mask"], HAS_PADDING, has_padding)
            setattr(fake["attention_mask"], TEXTS, texts)
        return fake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def _first(batch: Mapping[str, Tensor]) -> Tensor:
    return next(iter(batch.values()))


class _ComputedError(Exception):
    """The first computation is done."""


class _ComputesOnce:
    """Lets a task compute once."""

    def __init__(self, inference: Inference, compute: Callable[..., None]) -> None:
        self._inference, self._compute = inference, compute

    def compute(
        self, function: Callable[[Any, Mapping[str, Tensor]], Result], model: nn.Module, batch: Mapping[str, Tensor]
    ) -> Result:
        """Run the function on shapes.

        Raises:
            _ComputedError: Always, afterwards.
        """
        self._compute(function, model, batch)
        raise _ComputedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inference, name)
