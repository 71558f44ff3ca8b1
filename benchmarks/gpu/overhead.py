"""What a step costs beside forward and backward, with a model that does nothing.

    python benchmarks/gpu/overhead.py [--steps 300]

The training loop's own code takes steps with one trained number, on CPU: batches, schedule, clipping, optimizer, hooks,
the watch of the loss and the meter. The least of many steps is told, since others may use the machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn

from peftlab.core.method import METHODS
from peftlab.core.task import TASKS
from peftlab.estimate.bare_job import Batch, bare_job
from peftlab.recipe.schema import Recipe
from peftlab.training.accelerator import build_shapes_accelerator
from peftlab.training.loop import lengths_of, optimizer_step
from peftlab.training.loss_watch import LossWatch
from peftlab.training.optimizers import build_optimizer


class Nothing(nn.Module):
    """One number, which is all that it says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        """One logit a text and class."""
        return self.weight.expand(len(input_ids), 2)


class NothingToLearn(TASKS["text_classification"]):  # type: ignore[misc]
    """Classification by that model."""

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Batch × classes."""
        return model(batch["input_ids"])


def least_seconds(steps: int) -> float:
    """Of a step on eight texts of 128 tokens."""
    task = NothingToLearn(text="text", label="label")
    recipe = Recipe.model_construct(name="overhead", method=METHODS["full"](), task=task)
    model, accelerator = Nothing(), build_shapes_accelerator(None)
    optimizer = accelerator.prepare(build_optimizer(model, recipe.training, 1e-3))
    examples = [task.placeholder(128, ("no", "yes")) for _ in range(8)]
    batch = Batch(examples, task.lengths(examples), [list(range(len(examples)))])
    job = bare_job(recipe, batch, model=model, optimizer=optimizer, accelerator=accelerator, task=task)
    step, watch, least = next(iter(job.plan.steps())), LossWatch(torch.device("cpu"), 1e-3), float("inf")
    for _ in range(steps):
        begin = time.perf_counter()
        job.meter.step_started()
        loss, norm, work = optimizer_step(job, step)
        job.meter.step_ended(lengths_of(job, step), work.padded_tokens, 8)
        watch.look(1, *([loss] if norm is None else [loss, norm]))
        least = min(least, time.perf_counter() - begin)
    return least


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300)
    print(f"{least_seconds(parser.parse_args().steps) * 1000:.2f} ms a step, the least of all")


if __name__ == "__main__":
    main()
