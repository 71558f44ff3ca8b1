"""The training loop: one for every method, task and device."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from peftlab.core.errors import RunFailedError
from peftlab.core.generators import generator_states, restore_generators
from peftlab.core.tensors import is_part
from peftlab.training.best_state import choosing_score, note_score
from peftlab.training.checkpoints import Checkpoint
from peftlab.training.evaluation import DivergedError
from peftlab.training.gradients import Work, accumulate_within_memory
from peftlab.training.interrupts import CancelledError
from peftlab.training.job import TrainingJob
from peftlab.training.job_state import resume, write_checkpoint
from peftlab.training.loss_watch import LossWatch
from peftlab.training.optimizers import learning_rate_schedule, set_learning_rate
from peftlab.training.progress import Progress
from peftlab.training.sharding import clip
from peftlab.training.steps import Step


def train(job: TrainingJob, resume_from: Checkpoint | None = None) -> Progress:
    """Train to the end of the plan, or until the score no longer rises.

    Args:
        job: What to train.
        resume_from: The checkpoint to go on from.

    Returns:
        Where the run ended. The model holds the last parameters; see :func:`peftlab.training.best_state.restore_best`.

    Raises:
        DivergedError: The loss is not finite any more.
        CancelledError: The user stopped the run; a checkpoint of the last step is on disk.
        CallbackError: A callback failed; a checkpoint of the last step is on disk.
        RunFailedError: A reward failed; of one process a checkpoint of the last step is on disk.
    """
    progress = resume(job, resume_from)
    schedule = learning_rate_schedule(job.config, job.learning_rate, job.plan.total)
    watch = LossWatch(job.accelerator.device, job.learning_rate)
    job.model.train()
    steps = job.plan.steps(after=progress.step)
    looks_ahead = job.ahead or job.roll_outs
    for step in looks_ahead.steps(steps) if looks_ahead is not None else steps:
        if progress.stopped_early or job.callbacks.error is not None:
            break
        if job.interrupts.are_requested():
            watch.check()
            write_checkpoint(job, progress)
            raise CancelledError("stopped by the user")
        job.meter.step_started()
        set_learning_rate(job.optimizer, schedule(step.number))
        try:
            own, rolled = _rolled_out(job, step)
        except RunFailedError as error:
            if job.world.size == 1 and not isinstance(error, DivergedError):  # of a reward: the model is as it was
                watch.check()
                write_checkpoint(job, progress)
            raise
        loss, norm, work = optimizer_step(own, rolled)
        job.meter.step_ended(lengths_of(own, rolled), work.padded_tokens, work.terms)
        # Under float16 the scaler meets infinite gradients, skips the step and lowers its scale: no divergence.
        watch.look(step.number, *([loss] if norm is None or job.accelerator.scaler is not None else [loss, norm]))
        progress.step = step.number
        if _is_logged(job, step) or _is_kept(job, step):
            watch.check()
        if _is_logged(job, step):
            _log_step(job, step, loss, norm, schedule(step.number))
        _evaluate_and_checkpoint(job, step, progress)
    if job.callbacks.error is not None:
        write_checkpoint(job, progress)
        raise job.callbacks.error
    if progress.best_step is not None and progress.best_score is None:
        raise DivergedError(
            f"the metric `{job.metric}` was not defined on the validation split in any evaluation",
            hint="The predictions are all equal. Choose another evaluation.metric, or a higher learning rate.",
        )
    return progress


def _rolled_out(job: TrainingJob, step: Step) -> tuple[TrainingJob, Step]:
    """The job and the step with what the task has made of the step's examples."""
    roll_outs = job.roll_outs
    if roll_outs is None:
        return job, step
    (rolled, split), drawn = job.world.first(lambda: (roll_outs.of_step(step, job.model), generator_states()))
    if job.world.size > 1:
        restore_generators(drawn)  # what is drawn later outside of a batch, as by an optimizer, is the same in all
    return replace(job, split=split), rolled


def optimizer_step(job: TrainingJob, step: Step) -> tuple[Tensor, Tensor | None, Work]:
    """One step: gradients of all its batches, clipping, the optimizer, the hooks.

    Each term of the loss (an example, or a labelled token) weighs the same, however the step is cut into batches.

    Returns:
        The mean loss, the gradient's norm before clipping (None where it is not clipped), and what was done.
    """
    with job.world.own_draws(step.number):
        loss, work = accumulate_within_memory(job, step)
    # Not `model.parameters()`: to walk through all modules costs as much as a fiftieth of a small model's step.
    trained = [parameter for group in job.optimizer.param_groups for parameter in group["params"]]
    loss = job.world.sum_gradients(trained, loss)
    norm = None
    if job.config.max_gradient_norm is not None and any(map(is_part, trained)):
        norm = clip(trained, job.config.max_gradient_norm)
    elif job.config.max_gradient_norm is not None:
        norm = job.accelerator.clip_grad_norm_(trained, job.config.max_gradient_norm)
    else:
        job.accelerator.unscale_gradients()
    if job.gradients.is_watching:
        job.gradients.observe(job.model, job.world, may_teach_nothing=job.roll_outs is not None)
    job.optimizer.step()
    if job.accelerator.scaler is not None:  # where float16 overflowed nothing was applied, and nothing is to be noted
        for group in job.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    job.hooks.after_step(job.bare_model, step.number)
    job.optimizer.zero_grad(set_to_none=True)
    return loss, norm, work


def lengths_of(job: TrainingJob, step: Step) -> list[int]:
    """Tokens of each text of a step, without padding."""
    return [job.task.length(job.split.examples[position]) for batch in step.batches for position in batch]


def _is_logged(job: TrainingJob, step: Step) -> bool:
    return step.number % job.config.log_every_steps == 0 or step.number in (1, job.plan.total)


def _is_evaluated(job: TrainingJob, step: Step) -> bool:
    every, is_last = job.evaluation.every, step.number == job.plan.total or job.callbacks.stopped_by is not None
    return is_last or (step.ends_epoch if every == "epoch" else step.number % every == 0)


def _is_kept(job: TrainingJob, step: Step) -> bool:
    """Whether a checkpoint is written after the step."""
    regular = job.config.checkpoint_every_steps
    return _is_evaluated(job, step) or (regular is not None and step.number % regular == 0)


def _log_step(job: TrainingJob, step: Step, loss: Tensor, norm: Tensor | None, rate: float) -> None:
    values = {"loss": float(loss), "learning_rate": rate}
    if norm is not None and math.isfinite(length := float(norm)):  # else float16 overflowed, and the step was skipped
        values["gradient_norm"] = length
    values |= job.roll_outs.figures if job.roll_outs is not None else {}
    job.log.write({"step": step.number, "epoch": step.epoch + 1, **values})
    job.accelerator.log({f"train/{name}": value for name, value in values.items()}, step=step.number)
    job.on_step(step.number, values["loss"], rate)
    job.callbacks.on_step(step.number, values["loss"])
    job.callbacks.agree(job.world.first)


def _evaluate_and_checkpoint(job: TrainingJob, step: Step, progress: Progress) -> None:
    if _is_evaluated(job, step) and job.evaluate is not None and job.metric is not None:
        with job.hooks.kept_weights(job.bare_model):
            scores = job.evaluate()
            if (score := choosing_score(job, scores)) is not None:
                job.hooks.after_evaluation(job.bare_model, step.number, score)
        job.log.write({"step": step.number, "epoch": step.epoch + 1, "validation": scores})
        job.accelerator.log({f"validation/{name}": value for name, value in scores.items()}, step=step.number)
        if job.hooks.can_be_best(job.bare_model, step.number):
            note_score(job, progress, step, scores)
        job.callbacks.on_evaluation(step.number, scores)
        job.callbacks.agree(job.world.first)
    if job.callbacks.stopped_by is not None:
        progress.stopped_early, progress.stopped_by = True, job.callbacks.stopped_by
    if _is_kept(job, step):
        write_checkpoint(job, progress)
