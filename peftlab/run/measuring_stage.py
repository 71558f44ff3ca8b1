"""Measure: memory, FLOPs and the speed of the device, before any step that counts."""

from __future__ import annotations

from dataclasses import replace

import torch

from peftlab.core.record import Memory
from peftlab.estimate.flops import count_step_flops, is_cheap_to_count
from peftlab.measurement.memory import by_category
from peftlab.measurement.roofline import StepFlops, measure_matmul_rate
from peftlab.measurement.throughput import ThroughputMeter
from peftlab.preparation.loading import Loader
from peftlab.preparation.rehearsal import rehearse_evaluation, rehearse_flops, rehearse_memory
from peftlab.run.loading_stage import target_of
from peftlab.run.run_context import RunContext
from peftlab.training.job import TrainingJob

WARMUP_STEPS = 5
"""Steps that are not timed: allocator and caches are cold in them."""


def count_on_shapes(run: RunContext, loader: Loader) -> StepFlops | None:
    """The FLOPs of the steps, where to count them with real numbers would take memory; else None.

    Called before accelerate is set up for the run: shapes have an accelerator of their own.
    """
    # Of FLOPs those count that are not done twice; without checkpointing an offloaded base would not fit.
    recipe, trains = run.recipe, run.recipe.training.max_steps != 0
    if not trains or recipe.model.offload is not None or run.placement.shards or is_cheap_to_count(run.checked, loader):
        return None
    return count_step_flops(run.checked, loader, target_of(run.device), say=run.reporter.say)


def measure(
    run: RunContext, loader: Loader, job: TrainingJob, step_flops: StepFlops | None
) -> tuple[TrainingJob, float | None]:
    """What can be known before training.

    Returns:
        The job with a meter that knows its FLOPs, and the FLOPs of a second of matrix products on this device.
    """
    recipe, findings, trains = run.recipe, run.findings, job.plan.total > 0
    run.reporter.say("measuring memory and speed before training" if trains else "measuring memory before evaluation")
    if trains:
        findings.memory = _most(run, rehearse_memory(job))
        findings.clock.set_peak("train", findings.memory.peak_bytes)
    largest = max((split for name, split in loader.splits.items() if name != "train"), key=len, default=None)
    if largest is not None:
        batches = recipe.evaluation_batches(recipe.task.lengths(largest.examples))
        inference = run.inference(loader.tokenizer, recipe.evaluation.metric)
        peak = rehearse_evaluation(job, largest, batches, inference)
        findings.clock.set_peak("evaluate", peak)
        if not trains:
            findings.memory = _most(run, by_category([job.bare_model], peak))
    if not trains:  # a step that no run takes could be what does not fit
        return replace(job, meter=new_meter(0, None, run.device)), None
    (matmul_rate,) = run.world.sum(measure_matmul_rate(run.device, run.autocast_dtype or run.dtype))
    if recipe.model.offload is None and not run.placement.shards and is_cheap_to_count(run.checked, loader):
        step_flops = rehearse_flops(job)
    return replace(job, meter=new_meter(job.plan.total, step_flops, run.device)), matmul_rate


def _most(run: RunContext, own: Memory) -> Memory:
    """That of the process with the highest peak."""
    return max(run.world.gather(own), key=lambda memory: memory.peak_bytes)


def new_meter(total_steps: int, step_flops: StepFlops | None, device: torch.device) -> ThroughputMeter:
    """A meter for a training of so many steps."""
    return ThroughputMeter(min(WARMUP_STEPS, total_steps // 2), device=device, step_flops=step_flops)
