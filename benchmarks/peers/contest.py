"""What the comparisons of this folder share: contestants alone in fresh processes, and a Trainer with a clock."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WARMUP_STEPS = 5


def run_alone(name: str, script: str, *arguments: str) -> dict[str, Any]:
    """What one contestant prints, run by a script of this folder in a fresh process."""
    command = [sys.executable, str(HERE / script), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise SystemExit(f"{name} failed:\n{finished.stderr[-3000:]}")
    line = next(line for line in finished.stdout.splitlines() if line.startswith("RESULT "))
    outcome: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    print(name, outcome, flush=True)
    return outcome


def median_run(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of median speed, the lower of two, and the figures of all runs in their order."""
    ordered = sorted(runs, key=lambda run: float(run["tokens_per_second"]))
    figures = {key: [run[key] for run in runs] for key in ("tokens_per_second", "flops_utilization") if key in runs[0]}
    return {**ordered[(len(runs) - 1) // 2], "all_runs": figures}


def print_outcome(outcome: dict[str, Any]) -> None:
    """How a contestant in its own process tells its outcome to `run_alone`."""
    print("RESULT " + json.dumps(outcome))


def write_result(result: dict[str, Any], output: Path) -> None:
    """Write a comparison, with the environment that it was made in, and print its ratios."""
    import torch

    from peftlab.measurement.environment import describe_environment

    result = {**result, "environment": describe_environment(torch.device("cpu"), deterministic=True)}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["peftlab_over_trainer"], indent=2))


def synchronize() -> None:
    """Wait for the card, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass
class StepTimes:
    """The seconds and tokens of the steps that were timed."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens that are not padding, through whole training steps after the warm-up."""
        return self.tokens / self.seconds


def build_trainer(
    count_tokens: Callable[[Any], int],
    *,
    folder: str,
    batch_size: int,
    epochs: int,
    learning_rate: float,
    settings: Mapping[str, Any] | None = None,
    kinds: tuple[Any, Any] | None = None,
    **parts: Any,
) -> tuple[Any, StepTimes]:
    """Transformers' Trainer with its defaults, and the times that its steps will have taken.

    Args:
        count_tokens: How many tokens of a batch are not padding.
        folder: Where the Trainer may write.
        batch_size: Examples per step.
        epochs: Passes over the rows.
        learning_rate: Of the first step.
        settings: Further arguments of training.
        kinds: A kind of trainer and of its arguments; None: transformers' own.
        parts: The Trainer's model, rows and collator.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments

    times = StepTimes()
    kind, kind_of_arguments = kinds or (Trainer, TrainingArguments)

    class Counting(kind):  # type: ignore[misc,valid-type]
        """Counts the tokens of each step that are not padding."""

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.tokens_now = count_tokens(inputs)
            return super().training_step(model, inputs, *args, **kwargs)

    class Clock(TrainerCallback):
        """Times a step from its begin to its end, the optimizer included; on CUDA the device's work, too."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            synchronize()
            self.begin = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize()
            times.steps += 1
            if times.steps > WARMUP_STEPS:
                times.seconds += time.perf_counter() - self.begin
                times.tokens += trainer.tokens_now

    arguments = kind_of_arguments(
        output_dir=folder,
        per_device_train_batch_size=batch_size,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
        **(settings or {}),
    )
    trainer = Counting(args=arguments, callbacks=[Clock()], **parts)
    return trainer, times


def peak_of_training(trainer: Any, batch: Any) -> int:
    """The peak of live tensor bytes over two steps of a trained Trainer's model, as peftlab measures its own."""
    import torch

    from peftlab.measurement.memory import measure_training_memory

    model = trainer.model

    def step() -> None:
        model.train()
        trainer.compute_loss(model, batch).backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    optimizer = trainer.optimizer.optimizer
    return measure_training_memory(step, model=model, optimizer=optimizer, device=torch.device("cpu")).peak_bytes


def run_peftlab(recipe: Path, overrides: list[str], folder: Path) -> tuple[Any, dict[str, Any]]:
    """Peftlab with its defaults: the run's record, and the figures of it that are compared."""
    from peftlab.recipe.schema import load_recipe
    from peftlab.run.run import run_recipe

    loaded, document = load_recipe(recipe, overrides)
    record = run_recipe(loaded, document, output_dir=folder).record
    assert record.throughput is not None
    assert record.memory is not None
    return record, {
        "tokens_per_second": record.throughput.tokens_per_second,
        "peak_bytes": record.memory.peak_bytes,
        "flops_utilization": record.throughput.flops_utilization,
        "padding_fraction": record.throughput.padding_fraction,
    }
