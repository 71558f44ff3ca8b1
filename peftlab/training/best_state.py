"""Which parameters a run leaves: those of its best evaluation, or what hooks make of several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from peftlab.core.lent_weights import lent_weights
from peftlab.training.checkpoints import BEST, Checkpoint, restore_parameters, trainable_parameters
from peftlab.training.job import TrainingJob
from peftlab.training.job_state import checkpoint_of, gathered
from peftlab.training.progress import Progress
from peftlab.training.steps import Step


def note_score(job: TrainingJob, progress: Progress, step: Step, scores: dict[str, float]) -> None:
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
    best = gathered(job, lambda: _best(job, progress))
    job.world.first(lambda: None if best is None else job.checkpoints.write(BEST, best))


def choosing_score(job: TrainingJob, scores: Mapping[str, float]) -> float | None:
    """The score that chooses, turned so that higher is better; None: it is not defined."""
    score = None if job.metric is None else scores.get(job.metric)
    return score if score is None or job.higher_is_better else -score


def _best(job: TrainingJob, progress: Progress) -> Checkpoint:
    """What the run leaves if no later evaluation is better."""
    kept = job.hooks.weights_to_keep(job.bare_model)
    last = checkpoint_of(job, progress, with_optimizer=False)
    return replace(last, parameters={**last.parameters, **kept})


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
            score = choosing_score(job, evaluate())
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
