"""`peftlab estimate --device` against what training really takes: the allocator's peak on a card."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu.steps.jobs import LABELS, batch_of, check, training_job
from benchmarks.gpu.steps.models import model_folder
from benchmarks.gpu.steps.step import Findings, run_step
from peftlab.cli.output import quiet_libraries
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.preparation.rehearsal import rehearse_memory

WITHIN = 0.1
"""An error over this is counted in the line that the step prints."""


@dataclass(frozen=True)
class Combination:
    """What is estimated and measured."""

    model: str
    method: str
    batch_size: int
    length: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """All of it, in a line."""
        extra = "".join(f" {key.rpartition('__')[2]}={value}" for key, value in self.settings.items())
        return f"{self.model} {self.method} {self.batch_size}x{self.length}{extra}"


CHECKPOINTING = {"training__gradient_checkpointing": True}
NF4, INT8 = ({"model__quantization": name} for name in ("nf4", "int8"))
FLOAT32 = {"model__dtype": "float32", "training__precision": "float32"}
COMBINATIONS = (
    Combination("bert_middle", "full", 32, 128),
    Combination("bert_middle", "lora", 32, 128),
    Combination("llama_middle", "lora", 4, 1024),
    Combination("llama_middle", "lora", 4, 1024, NF4),
    Combination("bert_middle", "full", 32, 128, FLOAT32),
    Combination("bert_middle", "lora", 32, 128, FLOAT32),
    Combination("llama_middle", "full", 4, 1024),
    Combination("llama_middle", "lora", 4, 1024, CHECKPOINTING),
    Combination("llama_middle", "lora", 4, 1024, INT8),
    Combination("bert_middle", "adalora", 32, 128),
    Combination("bert_middle", "prefix_tuning", 32, 128),
    Combination("bert_middle", "bitfit", 32, 128),
    Combination("bert_middle", "houlsby_adapter", 32, 128),
    Combination("bert_middle", "full", 32, 128, {"training__optimizer": "adamw_8bit"}),
    Combination("bert_middle", "full", 32, 128, CHECKPOINTING),
    Combination("bert_middle", "lora", 8, 512),
    Combination("llama_middle", "prefix_tuning", 4, 1024),
    Combination("llama_middle", "lora", 1, 4096, {**NF4, **CHECKPOINTING}),
)


def main(findings: Findings) -> None:
    """Estimate and measure one after the other."""
    quiet_libraries(offline=True)
    rows: list[dict[str, Any]] = []
    for combination in COMBINATIONS:
        try:
            rows.append(compare(combination, findings))
        except Exception as error:  # noqa: BLE001 - the others are worth knowing all the same
            findings.fail(f"{combination.name}: {type(error).__name__}: {error}"[:300])
        findings.note("rows", rows)
        gc.collect()
        if findings.device == "cuda":
            torch.cuda.empty_cache()
    errors = [row["error"] for row in rows]
    near = sum(abs(error) <= WITHIN for error in errors)
    findings.line = f"{near} of {len(rows)} within {WITHIN:.0%}; lowest {min(errors):+.1%}, highest {max(errors):+.1%}"


def compare(combination: Combination, findings: Findings) -> dict[str, Any]:
    """A row."""
    tiny, name = findings.is_tiny, findings.device
    size, length = (4, 16) if tiny else (combination.batch_size, combination.length)
    folder = model_folder(combination.model, findings.scratch, tiny=tiny, device=name)
    is_decoder = combination.model.startswith("llama")
    task = {"type": "causal_lm" if is_decoder else "text_classification", "max_length": max(16, length)}
    # What is measured is a step that is computed plainly; graphs take more, which the other steps tell.
    settings = {"training__cuda_graphs": "off", **combination.settings}
    checked = check(folder, task, {"type": combination.method}, **settings)
    batch = batch_of(checked, size=size, length=length)
    target = Target("cuda" if name == "cuda" else "cpu", None)
    started = time.perf_counter()
    estimated = ShapesOfRecipe(checked, LABELS, target).memory(batch).memory
    seconds = time.perf_counter() - started
    with training_job(checked, batch, torch.device(name)) as job:
        measured = rehearse_memory(job)
    row = {
        "combination": combination.name,
        "estimated": {key: value for key, value in estimated.model_dump().items() if value is not None},
        "measured": {key: value for key, value in measured.model_dump().items() if value is not None},
        "error": round(estimated.peak_bytes / measured.peak_bytes - 1, 4),
        "estimate_seconds": round(seconds, 2),
    }
    print(f"{row['error']:+7.1%}  {measured.peak_bytes / 1e6:8.1f} MB  {combination.name}", flush=True)
    return row


if __name__ == "__main__":
    run_step(main)
