"""EMA: the average is the naive one, and it is what is evaluated and left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from peftlab.core.errors import UnsupportedError
from peftlab.testing.training_jobs import TASKS, checked, job_of
from peftlab.training.best_state import restore_best
from peftlab.training.checkpoints import trainable_parameters
from peftlab.training.job import TrainingJob
from peftlab.training.loop import train
from peftlab.training.progress import Progress


def watched_job(
    folder: Path, tiny_bert: Path, scores: list[float] | None, decay: float = 0.5, regularizer: dict | None = None
) -> TrainingJob:
    """A job that notes its weights after each step in ``seen``, and those that are evaluated in ``evaluated``."""
    job = job_of(
        checked(tiny_bert, TASKS["text_classification"][1], [regularizer or {"type": "ema", "decay": decay}]),
        folder=folder,
    )
    seen, evaluated = [], []

    def weights() -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in trainable_parameters(job.model).items()}

    def evaluate() -> dict[str, float]:
        evaluated.append(weights())
        return {"accuracy": scores[len(evaluated) - 1]}

    job = replace(
        job,
        on_step=lambda *_: seen.append(weights()),
        metric="accuracy" if scores else None,
        evaluate=evaluate if scores else None,
        evaluation=job.evaluation.model_copy(update={"every": 2}),
    )
    object.__setattr__(job, "seen", seen)
    object.__setattr__(job, "evaluated", evaluated)
    return job


def naive_average(seen: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    average = dict(seen[0])
    for step, weights in enumerate(seen[1:], start=2):
        own = min(decay, (1 + step) / (10 + step))
        average = {name: own * average[name] + (1 - own) * weights[name] for name in average}
    return average


@pytest.mark.parametrize("decay", [0.2, 0.999])
def test_without_validation_the_run_leaves_the_last_average(decay: float, tmp_path: Path, tiny_bert: Path) -> None:
    job = watched_job(tmp_path, tiny_bert, None, decay)
    progress = train(job)
    last = job.seen[-1]
    for name, value in trainable_parameters(job.model).items():
        assert torch.equal(value, last[name]), "training goes on with the weights themselves"
    restore_best(job, progress)
    for name, value in naive_average(job.seen, decay).items():
        torch.testing.assert_close(job.model.get_parameter(name).detach(), value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scores", [[0.5, 0.9, 0.7], [0.1, 0.2, 0.3]], ids=["best in the middle", "best at the end"])
def test_the_average_is_evaluated_and_the_best_one_is_left(
    scores: list[float], tmp_path: Path, tiny_bert: Path
) -> None:
    job = watched_job(tmp_path, tiny_bert, scores)
    progress: Progress = train(job)
    assert progress.best_step == 2 * (1 + scores.index(max(scores)))
    for number, values in enumerate(job.evaluated, start=1):
        for name, value in naive_average(job.seen[: 2 * number], 0.5).items():
            torch.testing.assert_close(values[name], value, rtol=1e-6, atol=1e-7)
    restore_best(job, progress)
    best = job.evaluated[scores.index(max(scores))]
    for name, value in trainable_parameters(job.model).items():
        assert torch.equal(value, best[name]), name


def test_a_method_that_prunes_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"training\.regularizers\.0: adalora prunes while it trains"):
        checked(tiny_bert, TASKS["text_classification"][1], [{"type": "ema"}], method={"type": "adalora"})
