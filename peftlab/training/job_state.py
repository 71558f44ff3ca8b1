"""What of a training job goes into a checkpoint, and how a job goes on from one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from peftlab.core.generators import generator_states, restore_generators
from peftlab.training.checkpoints import (
    Checkpoint,
    flatten_optimizer,
    restore_optimizer,
    restore_parameters,
    trainable_parameters,
)
from peftlab.training.job import TrainingJob
from peftlab.training.progress import Progress
from peftlab.training.sharding import whole_tensors


def write_checkpoint(job: TrainingJob, progress: Progress) -> None:
    """Write the checkpoint of the last step."""
    whole = gathered(job, lambda: checkpoint_of(job, progress, with_optimizer=True))
    job.world.first(lambda: None if whole is None else job.checkpoints.write_step(progress.step, whole))


def gathered(job: TrainingJob, make: Callable[[], Checkpoint]) -> Checkpoint | None:
    """A checkpoint of whole tensors in the first process, which writes it; where tensors are in parts, all help."""
    if not (job.world.is_first or job.world.keeps_pace):
        return None
    made = make()
    parts = ("parameters", "hooks", "optimizer")
    return replace(made, **{part: whole_tensors(getattr(made, part), keep=job.world.is_first) for part in parts})


def checkpoint_of(job: TrainingJob, progress: Progress, *, with_optimizer: bool) -> Checkpoint:
    """The job as it stands; without the optimizer's state and the generators where nothing goes on from it."""
    return Checkpoint(
        parameters=dict(trainable_parameters(job.bare_model)),
        hooks=job.hooks.state(job.bare_model),
        optimizer=flatten_optimizer(job.optimizer) if with_optimizer else {},
        generators=generator_states() if with_optimizer else {},
        state={
            "progress": vars(progress),
            "meter": job.meter.state_dict(),
            "gradients": job.gradients.state_dict(),
            "micro_batches": vars(job.micro_batches),
            **({"roll_outs": job.roll_outs.state_dict()} if job.roll_outs is not None else {}),
            "scaler": job.accelerator.scaler.state_dict() if job.accelerator.scaler is not None else None,
            **job.extra_state(),
        },
    )


def resume(job: TrainingJob, checkpoint: Checkpoint | None) -> Progress:
    """Put a job where it stood at a checkpoint; None: at its start."""
    if checkpoint is None:
        job.log.keep_up_to(0)
        return Progress()
    progress = Progress(**checkpoint.state["progress"])
    restore_parameters(job.bare_model, checkpoint.parameters)
    job.hooks.restore(job.bare_model, checkpoint.hooks)
    restore_optimizer(job.optimizer, checkpoint.optimizer)
    restore_generators(checkpoint.generators)
    job.meter.load_state_dict(checkpoint.state["meter"])
    job.gradients.load_state_dict(checkpoint.state["gradients"])
    job.micro_batches.restore(checkpoint.state["micro_batches"])
    if job.roll_outs is not None:
        job.roll_outs.load_state_dict(checkpoint.state["roll_outs"])
    if job.accelerator.scaler is not None:
        job.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    job.log.keep_up_to(progress.step)
    return progress
