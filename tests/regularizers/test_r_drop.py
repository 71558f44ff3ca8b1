"""R-Drop's gradient is that of a naive implementation: both passes drop what they drop there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from peftlab.core.errors import UnsupportedError
from peftlab.testing.training_jobs import TASKS, checked, gradients_of, job_of
from peftlab.training.gradients import accumulate_gradients


@pytest.mark.parametrize("kind", TASKS)
def test_the_gradient_is_that_of_a_naive_implementation(kind: str, request: pytest.FixtureRequest) -> None:
    model, task = TASKS[kind]
    folder = request.getfixturevalue(model)
    plain = job_of(checked(folder, task, [], dropout=0.2))
    ours = job_of(checked(folder, task, [{"type": "r_drop", "alpha": 2.0}], dropout=0.2))
    batch = ours.task.collate(list(ours.split.examples), 0)
    torch.manual_seed(3)
    found_loss = accumulate_gradients(ours, [batch])
    torch.manual_seed(3)
    one, other = (plain.task.class_terms(plain.task.logits(plain.model, batch), batch) for _ in range(2))
    assert not torch.equal(one[0], other[0]), "dropout differs"
    p, q = one[0].softmax(-1), other[0].softmax(-1)
    divergence = ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)).mean() / 2
    loss = (functional.cross_entropy(*one) + functional.cross_entropy(*other)) / 2 + 2.0 * divergence
    loss.backward()
    torch.testing.assert_close(found_loss, loss.detach(), rtol=1e-5, atol=1e-6)
    wanted, found = gradients_of(plain), gradients_of(ours)
    difference = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted])
    assert float(difference.norm() / torch.cat([value.flatten() for value in wanted.values()]).norm()) <= 1e-5


def test_without_dropout_it_is_refused(request: pytest.FixtureRequest) -> None:
    model, task = TASKS["text_classification"]
    with pytest.raises(UnsupportedError, match="differ by their dropout"):
        checked(request.getfixturevalue(model), task, [{"type": "r_drop"}])


def test_a_model_that_uses_none_of_its_rates_is_refused_in_the_first_pass(tiny_bert: Path) -> None:
    """A config may name rates that nothing reads: both passes are equal then, and their divergence is 0."""
    _, task = TASKS["text_classification"]
    job = job_of(checked(tiny_bert, task, [{"type": "r_drop"}], dropout=0.2))
    batch = job.task.collate(list(job.split.examples), 0)
    accumulate_gradients(job, [batch])
    other = job_of(checked(tiny_bert, task, [{"type": "r_drop"}], dropout=0.2))
    for module in other.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with pytest.raises(UnsupportedError, match="this model drops nothing"):
        accumulate_gradients(other, [batch])


def test_dropout_of_an_update_that_is_still_zero_counts(tiny_bert: Path) -> None:
    """LoRA's B begins at zero, so that the first two passes are equal although their dropout differs."""
    _, task = TASKS["text_classification"]
    method = {"type": "lora", "rank": 4, "dropout": 0.2}
    job = job_of(checked(tiny_bert, task, [{"type": "r_drop"}], method=method))
    loss = accumulate_gradients(job, [job.task.collate(list(job.split.examples), 0)])
    assert torch.isfinite(loss)
