"""Label smoothing is torch's own, and trains the model only: evaluation keeps the plain loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from peftlab.core.errors import UnsupportedError
from peftlab.tasks.token_classification import IGNORED, TokenClassification
from peftlab.testing.training_jobs import TASKS, checked, job_of


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("acceleration", ["auto", "off"])
def test_the_loss_is_torchs(kind: str, acceleration: str, request: pytest.FixtureRequest) -> None:
    model, task = TASKS[kind]
    folder = request.getfixturevalue(model)
    ready = checked(
        folder,
        task,
        [{"type": "label_smoothing", "epsilon": 0.2}],
        model={"path": str(folder), "acceleration": acceleration, "dropout": 0.0},
    )
    job = job_of(ready)
    batch = job.task.collate(list(job.split.examples), 0)
    logits = job.task.logits(job.model, batch)
    wanted = functional.cross_entropy(*job.task.class_terms(logits, batch), reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(job.task.training_loss(job.model, batch), wanted)
    torch.testing.assert_close(job.task.loss(logits, batch), wanted)
    plain = functional.cross_entropy(*job.task.class_terms(logits, batch), reduction="sum")
    torch.testing.assert_close(ready.recipe.task.loss(logits, batch), plain)
    assert abs(float(plain - wanted)) > 1e-3


def test_words_are_smoothed_and_padding_is_not() -> None:
    task = TokenClassification().with_label_smoothing(0.3)
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 4), torch.tensor([[0, 3, IGNORED, 1, IGNORED], [2, *[IGNORED] * 4]])
    kept = labels != IGNORED
    wanted = functional.cross_entropy(logits[kept], labels[kept], reduction="sum", label_smoothing=0.3)
    torch.testing.assert_close(task.loss(logits, {"labels": labels}), wanted)


@pytest.mark.parametrize(
    "task",
    [
        {"type": "text_regression", "label": "score"},
        {"type": "text_classification", "label": ["one", "two"]},
    ],
    ids=lambda task: task["type"],
)
def test_what_has_no_classes_is_refused(task: dict, tiny_bert: Path) -> None:
    with pytest.raises(UnsupportedError, match="label_smoothing needs a task in which each target is one class"):
        checked(tiny_bert, {**task, "max_length": 24}, [{"type": "label_smoothing"}])
