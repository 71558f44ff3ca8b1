"""A tuned model that is ready to use, whatever computes its logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.data.batching import plan_in_order_of_length
from peftlab.interfaces import EncodedSplit, Example, Prediction, Split, Task
from peftlab.recipe import Recipe
from peftlab.training.evaluate import Asking, compute_logits

ComputeLogits = Callable[[Mapping[str, Tensor]], Tensor]
"""Takes a padded batch on CPU and gives its logits on CPU."""
DEFAULT_BATCH_SIZE = 32


@dataclass(frozen=True)
class TunedModel:
    """A run, or an export of one, with its weights in memory.

    Args:
        name: The run's.
        folder: Where it was loaded from.
        recipe: The resolved recipe of the run.
        labels: Names of the classes.
        temperature: Logits are divided by it before they become probabilities.
        tokenizer: Travels with the weights.
        compute_logits: On whatever runs the model.
        model: The module, where torch runs it.
        asking: How that module is asked to generate.
    """

    name: str
    folder: Path
    recipe: Recipe
    labels: tuple[str, ...]
    temperature: float
    tokenizer: Any
    compute_logits: ComputeLogits
    model: nn.Module | None = None
    asking: Asking | None = None

    @property
    def task(self) -> Task:
        """What it does."""
        return self.recipe.task

    @property
    def max_length(self) -> int | None:
        """Tokens of a text at most, where the task has a limit."""
        return getattr(self.task, "max_length", None)

    def encode(self, split: Split) -> EncodedSplit:
        """Tokenise rows; where the label columns are missing, placeholders take their place."""
        if any(column not in split.columns for column in self.task.label_columns()):
            columns = {**split.columns, **self.task.placeholder_labels(split, self.labels)}
            split = Split(split.name, split.index, columns, split.source)
        return self.task.encode(split, self.tokenizer, self.labels)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Positions of examples of like length, in batches of the size that the run was evaluated with."""
        training = self.recipe.training
        size = self.recipe.evaluation.batch_size or training.batch_size
        limit = None if size else training.max_tokens_per_batch
        return plan_in_order_of_length(
            lengths, batch_size=size or (None if limit else DEFAULT_BATCH_SIZE), max_tokens=limit
        )

    @property
    def batch_size(self) -> int:
        """Examples of a batch that the run was evaluated with, or a usual number where tokens were counted instead."""
        return self.recipe.evaluation.batch_size or self.recipe.training.batch_size or DEFAULT_BATCH_SIZE

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Predictions with calibrated scores, in the order of the examples."""
        found: dict[int, Prediction] = {}
        for positions in self.batches([len(example["input_ids"]) for example in examples]):
            batch = self.task.collate([examples[at] for at in positions], self.tokenizer.pad_token_id)
            logits = self.compute_logits(batch) / self.temperature
            found.update(zip(positions, self.task.predict(logits, batch, self.labels), strict=True))
        return [found[at] for at in range(len(examples))]


def torch_logits(
    model: nn.Module, task: Task, *, device: torch.device, autocast_dtype: torch.dtype | None
) -> ComputeLogits:
    """Logits from a module in eval mode."""

    def compute(batch: Mapping[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            return compute_logits(model, task, batch, device=device, autocast_dtype=autocast_dtype).float().cpu()

    return compute
