"""PGD, FreeLB and NEFTune: the same as naive implementations on embeddings that are handed to the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from peftlab.regularizers._embeddings import Probe
from peftlab.testing.training_jobs import TASKS, checked, gradients_of, job_of
from peftlab.training.gradients import accumulate_gradients
from tests.regularizers.test_fgm import relative_distance

EPSILON, STEP, STEPS = 0.6, 0.5, 3


class Naive:
    """A model to which embeddings are handed, and the norms of texts."""

    def __init__(self, job: Any, batch: dict[str, torch.Tensor]) -> None:
        self.job, self.batch = job, batch
        self.embeddings = job.model.get_input_embeddings()(batch["input_ids"]).detach()
        self.mask = batch["attention_mask"][..., None].double()
        self.drawn: torch.Tensor | None = None

    def loss(self, shift: torch.Tensor) -> torch.Tensor:
        if self.drawn is not None:
            torch.set_rng_state(self.drawn)
        output = self.job.model(inputs_embeds=self.embeddings + shift, attention_mask=self.batch["attention_mask"])
        return functional.cross_entropy(output.logits, self.batch["labels"])

    def uphill(self, shift: torch.Tensor) -> torch.Tensor:
        shift = shift.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(shift), shift)
        moved = shift.detach() + STEP * EPSILON * gradient / self.norm(gradient)
        return torch.where(self.norm(moved) > EPSILON, moved * EPSILON / self.norm(moved), moved)

    def norm(self, values: torch.Tensor) -> torch.Tensor:
        return values.flatten(1).norm(dim=1)[:, None, None]

    def noise(self, largest: float) -> torch.Tensor:
        numbers = self.mask.sum(dim=1, keepdim=True) * self.embeddings.shape[-1]
        return (2 * torch.rand_like(self.embeddings) - 1) * largest / numbers.sqrt() * self.mask


def pgd(naive: Naive) -> None:
    shift = torch.zeros_like(naive.embeddings)
    naive.loss(shift).backward()
    for _ in range(STEPS):
        shift = naive.uphill(shift)
    naive.loss(shift).backward()


def freelb(naive: Naive) -> None:
    shift = naive.noise(EPSILON)
    naive.drawn = torch.get_rng_state()  # all passes drop the same
    for number in range(STEPS):
        (naive.loss(shift) / STEPS).backward()
        shift = naive.uphill(shift) if number < STEPS - 1 else shift


def neftune(naive: Naive) -> None:
    naive.loss(naive.noise(5.0)).backward()


@pytest.mark.parametrize(
    ("implementation", "settings", "dropout"),
    [
        (pgd, {"type": "pgd", "epsilon": EPSILON, "step": STEP, "steps": STEPS}, 0.0),
        (freelb, {"type": "freelb", "epsilon": EPSILON, "step": STEP, "steps": STEPS}, 0.0),
        (freelb, {"type": "freelb", "epsilon": EPSILON, "step": STEP, "steps": STEPS}, 0.3),
        (neftune, {"type": "neftune"}, 0.0),
    ],
    ids=["pgd", "freelb", "freelb with dropout", "neftune"],
)
def test_the_gradient_is_that_of_a_naive_implementation(implementation: Any, settings, dropout, request) -> None:
    model, task = TASKS["text_classification"]
    folder = request.getfixturevalue(model)
    plain = job_of(checked(folder, task, [], dropout=dropout))
    ours = job_of(checked(folder, task, [settings], dropout=dropout))
    for job in (plain, ours):
        job.model.double()
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in job.model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.1)
    batch = ours.task.collate(list(ours.split.examples), 0)
    torch.manual_seed(3)
    implementation(Naive(plain, batch))
    torch.manual_seed(3)
    accumulate_gradients(ours, [batch])
    wanted = gradients_of(plain)
    found = gradients_of(ours)
    assert found.keys() == wanted.keys()
    assert relative_distance(found, wanted) <= 1e-6


def test_a_gradient_that_overflowed_moves_nothing() -> None:
    """Under float16 the scaler skips such a step; the loss at a place that is no number would end the run."""
    probe, batch = Probe(), {"attention_mask": torch.ones(2, 3)}
    probe(torch.ones(2, 3, 4))
    gradient = torch.ones(2, 3, 4)
    gradient[0, 1, 2], gradient[1] = torch.inf, torch.nan
    probe.shifts[0].grad = gradient
    (moved,) = probe.moved(batch, 1.0, 0.5)
    assert torch.isfinite(moved).all()
    assert float(moved[0].norm()) == pytest.approx(0.5)
    assert not moved[1].any()
