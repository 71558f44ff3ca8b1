"""SMART's loss and gradient are those of a naive implementation, with embeddings and weights handed to the model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.func import functional_call
from torch.nn import functional

from peftlab.testing.training_jobs import TASKS, checked, gradients_of, job_of
from peftlab.training.checkpoints import trainable_parameters
from peftlab.training.gradients import accumulate_gradients
from peftlab.training.loop import optimizer_step
from peftlab.training.steps import Step
from tests.regularizers.test_adversarial import Naive
from tests.regularizers.test_fgm import relative_distance

EPSILON = 0.6


def divergence(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    p, q = one.softmax(-1), other.softmax(-1)
    return ((p - q) * (p / q).log()).sum()


def test_the_gradient_is_that_of_a_naive_implementation(tiny_bert: Path) -> None:
    settings = {"type": "smart", "epsilon": EPSILON, "smoothness": 0.7, "proximity": 3.0, "momentum": 0.8}
    job = job_of(checked(tiny_bert, TASKS["text_classification"][1], [settings]))
    start = {name: value.detach().clone() for name, value in trainable_parameters(job.model).items()}
    for number in (1, 2):
        optimizer_step(job, Step(number, 0, [[0, 1, 2, 3]], ends_epoch=False))
        now = {name: value.detach().clone() for name, value in trainable_parameters(job.model).items()}
        start = {name: 0.8 * start[name] + 0.2 * now[name] for name in now}
    batch = job.task.collate(list(job.split.examples), 0)
    torch.manual_seed(3)
    found_loss = accumulate_gradients(job, [batch])
    found = gradients_of(job)
    job.model.zero_grad(set_to_none=True)

    torch.manual_seed(3)
    naive = Naive(job, batch)

    def logits(shift: torch.Tensor, weights: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        inputs = {"inputs_embeds": naive.embeddings + shift, "attention_mask": batch["attention_mask"]}
        return functional_call(job.model, weights or {}, (), inputs).logits

    plain = logits(torch.zeros_like(naive.embeddings))
    noise = naive.noise(EPSILON).float().requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(logits(noise), plain.detach()), noise)
    moved = noise.detach() + EPSILON * gradient / naive.norm(gradient)
    moved = torch.where(naive.norm(moved) > EPSILON, moved * EPSILON / naive.norm(moved), moved)
    with torch.no_grad():
        earlier = logits(torch.zeros_like(naive.embeddings), start)
    terms = [
        functional.cross_entropy(plain, batch["labels"], reduction="sum"),
        0.7 * divergence(logits(moved), plain),
        3.0 * divergence(plain, earlier),
    ]
    assert min(float(term) for term in terms) > 1e-4, "each term matters"
    loss = sum(terms) / len(batch["labels"])
    loss.backward()
    torch.testing.assert_close(found_loss, loss.detach(), rtol=1e-4, atol=1e-5)
    assert relative_distance(found, gradients_of(job)) <= 1e-4


def test_the_average_only_holds_back(tiny_bert: Path) -> None:
    job = job_of(checked(tiny_bert, TASKS["text_classification"][1], [{"type": "smart"}]))
    optimizer_step(job, Step(1, 0, [[0, 1]], ends_epoch=False))
    assert job.hooks.state(job.model)
    assert not job.hooks.weights_to_keep(job.model)
