"""What a finished run says of rows, asked in the midst of another run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.training.evaluation import TorchInference, evaluate

Answer = TypeVar("Answer")
Read = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], Sequence[Answer]]
"""From logits and their batch to one answer an example."""


def ask_run(run: SavedRun, rows: Split, read: Read[Answer], *, device: torch.device, offline: bool) -> list[Answer]:
    """What a run makes of rows, in their order; its model is loaded, and gone afterwards.

    Args:
        run: Of a task that answers by logits.
        rows: With the text columns.
        read: Makes answers of the logits.
        device: Where it computes.
        offline: Allow no network.
    """
    task, tokenizer = run.recipe.task, run.tokenizer
    model = run.load_model(offline=offline, device=device)
    encoded = task.encode_inputs(rows, tokenizer, run.labels)
    batches = run.recipe.evaluation_batches(task.lengths(encoded.examples))
    found: dict[int, Answer] = {}
    waiting = iter(batches)

    def keep(logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> None:
        found.update(zip(next(waiting), read(logits, batch), strict=True))

    inference = TorchInference(
        tokenizer=tokenizer,
        labels=run.labels,
        device=device,
        virtual_tokens=run.recipe.method.extra_positions(),
        autocast_dtype=run.autocast_dtype(device),
    )
    evaluate(model, task, encoded, batches, pad_token_id=tokenizer.pad_token_id, inference=inference, keep_logits=keep)
    del model
    gc.collect()
    return [found[at] for at in range(len(rows))]


def ask(folder: Path, rows: Split, *, device: torch.device, offline: bool) -> list[Prediction]:
    """What the run in a folder says of texts, with calibrated probabilities, in their order."""
    run = SavedRun.open(folder)
    task, temperature = run.recipe.task.tempered(run.temperature), run.temperature

    def read(logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[Prediction]:
        return task.predict(logits / temperature, batch, run.labels)

    return ask_run(run, rows, read, device=device, offline=offline)
