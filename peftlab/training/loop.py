"""The training loop: one for every method, task and device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from peftlab.core.callback import CallbackList
from peftlab.core.errors import RunFailedError
from peftlab.core.generators import generator_states, restore_generators
from peftlab.core.lent_weights import lent_weights
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Task
from peftlab.core.tensors import is_part
from peftlab.training.batches_ahead import BatchesAhead
from peftlab.training.checkpoints import (
    BEST,
    Checkpoint,
    CheckpointFolder,
    flatten_optimizer,
    restore_optimizer,
    restore_parameters,
    trainable_parameters,
)
from peftlab.training.evaluation import DivergedError
from peftlab.training.gradients import Work, accumulate_within_memory
from peftlab.training.graphs import StepGraphs
from peftlab.training.guards import GradientGuard
from peftlab.training.hooks import HookList
from peftlab.training.interrupts import CancelledError, Interrupts
from peftlab.training.loss_watch import LossWatch
from peftlab.training.meter import Meter
from peftlab.training.metrics_log import MetricsLog
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.optimizers import learning_rate_schedule, set_learning_rate
from peftlab.training.progress import Progress
from peftlab.training.roll_outs import RollOuts
from peftlab.training.sharding import clip, whole_tensors
from peftlab.training.steps import Step, StepPlan
from peftlab.training.training_config import EvaluationConfig, TrainingConfig
from peftlab.training.world import World


@dataclass(frozen=True)
class TrainingJob:
    """Everything that the loop works on.

    Args:
        model: Wrapped by the method, prepared by accelerate.
        optimizer: Prepared by accelerate.
        accelerator: Of this run.
        hooks: Of the method and the regularisers.
        task: Makes batches and the loss, as the hooks want it.
        split: The training split.
        plan: All steps.
        config: The recipe's section.
        evaluation: The recipe's section.
        learning_rate: The peak.
        metric: Of the validation split, or None where there is none.
        higher_is_better: Direction of the metric.
        pad_token_id: For padding.
        evaluate: Scores of the validation split, or None where there is none.
        checkpoints: Where they go.
        log: Where the metrics go.
        meter: Measures speed.
        interrupts: Ctrl-C.
        on_step: Told of each step that is logged: its number, loss and learning rate, for a progress bar.
        extra_state: What the run wants to find again in a checkpoint.
        gradients: Watches the first steps.
        micro_batches: How many examples are computed at once.
        callbacks: A program's own; they may end the training.
        ahead: Makes batches one step ahead; None: they are made when they are needed.
        graphs: Replays passes that were recorded; None: all are computed plainly.
        world: The processes that do each step together.
        roll_outs: What the task computes with the model between steps; None: nothing.
    """

    model: nn.Module
    optimizer: Any
    accelerator: Accelerator
    hooks: HookList
    task: Task
    split: EncodedSplit
    plan: StepPlan
    config: TrainingConfig
    evaluation: EvaluationConfig
    learning_rate: float
    metric: str | None
    higher_is_better: bool
    pad_token_id: int
    evaluate: Callable[[], dict[str, float]] | None
    checkpoints: CheckpointFolder
    log: MetricsLog
    meter: Meter
    interrupts: Interrupts
    on_step: Callable[[int, float, float], None]
    extra_state: Callable[[], dict[str, Any]]
    gradients: GradientGuard
    micro_batches: MicroBatches = field(default_factory=MicroBatches)
    callbacks: CallbackList = field(default_factory=CallbackList)
    ahead: BatchesAhead | None = None
    graphs: StepGraphs | None = None
    world: World = field(default_factory=World)
    roll_outs: RollOuts | None = None

    @cached_property
    def bare_model(self) -> nn.Module:
        """The model without what accelerate may have put around it. To ask accelerate walks through all its modules."""
        return self.accelerator.unwrap_model(self.model)  # type: ignore[no-any-return]


def train(job: TrainingJob, resume_from: Checkpoint | None = None) -> Progress:
    """Train to the end of the plan, or until the score no longer rises.

    Args:
        job: What to train.
        resume_from: The checkpoint to go on from.

    Returns:
        Where the run ended. The model holds the last parameters; see :func:`restore_best`.

    Raises:
        DivergedError: The loss is not finite any more.
        CancelledError: The user stopped the run; a checkpoint of the last step is on disk.
        CallbackError: A callback failed; a checkpoint of the last step is on disk.
        RunFailedError: A reward failed; of one process a checkpoint of the last step is on disk.
    """
    progress = _resume(job, resume_from)
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
            _write_checkpoint(job, progress)
            raise CancelledError("stopped by the user")
        job.meter.step_started()
        set_learning_rate(job.optimizer, schedule(step.number))
        try:
            own, rolled = _rolled_out(job, step)
        except RunFailedError as error:
            if job.world.size == 1 and not isinstance(error, DivergedError):  # of a reward: the model is as it was
                watch.check()
                _write_checkpoint(job, progress)
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
        _write_checkpoint(job, progress)
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
            if (score := _signed(job, scores)) is not None:
                job.hooks.after_evaluation(job.bare_model, step.number, score)
        job.log.write({"step": step.number, "epoch": step.epoch + 1, "validation": scores})
        job.accelerator.log({f"validation/{name}": value for name, value in scores.items()}, step=step.number)
        if job.hooks.can_be_best(job.bare_model, step.number):
            _note_score(job, progress, step, scores)
        job.callbacks.on_evaluation(step.number, scores)
        job.callbacks.agree(job.world.first)
    if job.callbacks.stopped_by is not None:
        progress.stopped_early, progress.stopped_by = True, job.callbacks.stopped_by
    if _is_kept(job, step):
        _write_checkpoint(job, progress)


def _signed(job: TrainingJob, scores: Mapping[str, float]) -> float | None:
    """The score that chooses, turned so that higher is better; None: it is not defined."""
    score = None if job.metric is None else scores.get(job.metric)
    return score if score is None or job.higher_is_better else -score


def _note_score(job: TrainingJob, progress: Progress, step: Step, scores: dict[str, float]) -> None:
    """Keep the best parameters; of equal scores those with the least validation loss, or the first.

    A metric that is not defined here, as a correlation with predictions that are all equal, is worse than any score.
    """
    assert job.metric is not None  # noqa: S101 - the caller has checked it
    score, loss = scores.get(job.metric), scores.get("loss")
    if progress.is_gain(score, higher_is_better=job.higher_is_better):
        progress.tied_steps = [step.number]
        progress.evaluations_without_gain = 0
    else:
        progress.evaluations_without_gain += 1
        patience = job.config.early_stopping_patience
        progress.stopped_early = patience is not None and progress.evaluations_without_gain >= patience
        if score != progress.best_score:
            return
        progress.tied_steps.append(step.number)
        if loss is None or progress.best_loss is None or loss >= progress.best_loss:
            return
    progress.best_score, progress.best_loss, progress.best_step = score, loss, step.number
    best = _gathered(job, lambda: _best(job, progress))
    job.world.first(lambda: None if best is None else job.checkpoints.write(BEST, best))


def _write_checkpoint(job: TrainingJob, progress: Progress) -> None:
    whole = _gathered(job, lambda: _checkpoint(job, progress, with_optimizer=True))
    job.world.first(lambda: None if whole is None else job.checkpoints.write_step(progress.step, whole))


def _gathered(job: TrainingJob, make: Callable[[], Checkpoint]) -> Checkpoint | None:
    """A checkpoint of whole tensors in the first process, which writes it; where tensors are in parts, all help."""
    if not (job.world.is_first or job.world.keeps_pace):
        return None
    made = make()
    parts = ("parameters", "hooks", "optimizer")
    return replace(made, **{part: whole_tensors(getattr(made, part), keep=job.world.is_first) for part in parts})


def _best(job: TrainingJob, progress: Progress) -> Checkpoint:
    """What the run leaves if no later evaluation is better."""
    kept = job.hooks.weights_to_keep(job.bare_model)
    last = _checkpoint(job, progress, with_optimizer=False)
    return replace(last, parameters={**last.parameters, **kept})


def _checkpoint(job: TrainingJob, progress: Progress, *, with_optimizer: bool) -> Checkpoint:
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


def _resume(job: TrainingJob, checkpoint: Checkpoint | None) -> Progress:
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


def restore_best(job: TrainingJob, progress: Progress) -> None:
    """Give the model the parameters that the run leaves: of the best evaluation, or else the last ones."""
    if progress.best_step is None or progress.best_step == progress.step:
        if kept := job.hooks.weights_to_keep(job.bare_model):
            restore_parameters(job.bare_model, {**trainable_parameters(job.bare_model), **kept})
    else:
        best = job.world.first(lambda: job.checkpoints.read(BEST))
        restore_parameters(job.bare_model, best.parameters)
        job.hooks.restore_best(job.bare_model, best.hooks)
    if job.evaluate is not None and job.metric is not None:
        _leave_chosen(job, job.bare_model)


def _leave_chosen(job: TrainingJob, model: nn.Module) -> None:
    """Give the model the weights that a hook has chosen by their validation score."""
    evaluate = job.evaluate
    assert evaluate is not None  # noqa: S101 - the caller has checked it

    def score_of(values: Mapping[str, Tensor]) -> float:
        with lent_weights(model, values):
            score = _signed(job, evaluate())
        return -math.inf if score is None else score

    if chosen := job.hooks.weights_at_end(model, score_of):
        restore_parameters(model, {**trainable_parameters(model), **chosen})


def restore_best_before(job: TrainingJob) -> Progress | None:
    """Give a model whose training went wrong the parameters of its best evaluation before.

    Returns:
        Where training stood then; None where no evaluation had a score, and the model stays as it is.
    """
    best = job.world.first(job.checkpoints.read_best)
    if best is None or best.state["progress"]["best_score"] is None:
        return None
    restore_parameters(job.bare_model, best.parameters)
    job.hooks.restore(job.bare_model, best.hooks)
    return Progress(**best.state["progress"])
