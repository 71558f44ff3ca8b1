"""Training rows, and runs of them, for the tests of methods that look at rows before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import peftlab
from peftlab.testing.tiny_models import Kind
from tests.conftest import sentences


class Rows:
    """Batches of random tokens, the second half of the last row padding.

    Args:
        kind: Of the model.
        batches: How many.
        rows: Of each.
    """

    def __init__(self, kind: Kind, batches: int, rows: int = 4) -> None:
        self.kind, self.batches, self.rows = kind, batches, rows

    def read(self, model: nn.Module, count: int) -> Iterator[Mapping[str, Tensor]]:
        for batch in self.all():
            with torch.no_grad():
                model(**batch)
            yield batch

    def learn(self, model: nn.Module, count: int) -> Iterator[Mapping[str, Tensor]]:
        for batch in self.all():
            self.loss(model, batch).backward()
            model.zero_grad()
            yield batch

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The sum of the logits' cross-entropies to the class 1."""
        logits = model(**batch).logits
        return nn.functional.cross_entropy(logits, torch.ones(len(logits), dtype=torch.long), reduction="sum")

    def all(self) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(1)
        for _ in range(self.batches):
            ids = torch.randint(5, 60, (self.rows, 8), generator=generator)
            mask = torch.ones_like(ids)
            mask[-1, 4:] = 0
            yield {"input_ids": ids, "attention_mask": mask}


def recipe(folder: Path, model: Path, **method: object) -> peftlab.Recipe:
    """A run of four steps on sixty sentences.

    Args:
        folder: For the table.
        model: The base.
        **method: Its section; of rank 4.
    """
    lines = "".join(f"{text},{label}\n" for text, label in sentences(60, seed=5))
    (folder / "rows.csv").write_text(f"text,label\n{lines}")
    return peftlab.Recipe.from_dict(
        {
            "name": "tiny",
            "measure": False,
            "waive_guards": ["answers_vary"],
            "model": {"path": str(model)},
            "task": {"type": "text_classification", "max_length": 16},
            "data": {"source": str(folder / "rows.csv")},
            "method": {"rank": 4, **method},
            "training": {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-2},
        }
    )
