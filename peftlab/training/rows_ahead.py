"""Training rows that hooks look at before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from peftlab.core.splits import Example
from peftlab.core.task import Task
from peftlab.training.evaluation import run_on_device, to_device

BATCH = 16


class EncodedRows:
    """See :class:`peftlab.core.hooks.TrainingRows`.

    Args:
        task: Makes the batches, and computes logits.
        examples: Of the training split.
        pad_token_id: For padding.
        device: Where batches go.
        seed: Draws the rows.
        autocast_dtype: Type to compute in; None: the weights' own.
    """

    def __init__(
        self,
        task: Task,
        examples: Sequence[Example],
        pad_token_id: int,
        device: torch.device,
        *,
        seed: int,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        self._task, self._examples, self._pad, self._device, self._seed = task, examples, pad_token_id, device, seed
        self._autocast_dtype = autocast_dtype

    def read(self, model: nn.Module, count: int) -> Iterator[Mapping[str, Tensor]]:
        """Batches of rows that the model has read."""
        generator = torch.Generator().manual_seed(self._seed)
        drawn = torch.randperm(len(self._examples), generator=generator)[:count].tolist()
        was_training = model.training
        model.eval()
        try:
            for start in range(0, len(drawn), BATCH):
                examples = [self._examples[at] for at in drawn[start : start + BATCH]]
                batch = to_device(self._task.collate(examples, self._pad), self._device)
                with torch.no_grad():
                    run_on_device(
                        self._task.logits, model, batch, device=self._device, autocast_dtype=self._autocast_dtype
                    )
                yield batch
        finally:
            model.train(was_training)
