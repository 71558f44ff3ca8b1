"""The spectral norm of low-rank updates and of whole matrices, against torch's own singular values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.testing.training_jobs import TASKS, checked, job_of
from peftlab.training.checkpoints import trainable_parameters
from peftlab.training.loop import optimizer_step
from peftlab.training.steps import Step

TASK = TASKS["text_classification"][1]


@pytest.mark.parametrize(
    "method", [{"type": "lora", "rank": 3, "alpha": 6}, {"type": "lora_fa", "rank": 3, "alpha": 6}, {"type": "full"}]
)
def test_the_gradient_is_that_of_the_largest_singular_value(method: dict, tiny_bert: Path) -> None:
    job = job_of(checked(tiny_bert, TASK, [{"type": "spectral", "strength": 0.2}], method=method))
    torch.manual_seed(1)
    trained = trainable_parameters(job.model)
    with torch.no_grad():
        for value in trained.values():
            value.copy_(torch.randn_like(value))
    for _ in range(400):
        job.hooks.after_step(job.model, 1)
    penalty = job.hooks.penalty(job.model)
    found = torch.autograd.grad(penalty, list(trained.values()), allow_unused=True)

    norms = []
    for module in job.model.modules():
        if hasattr(module, "lora_A"):
            norms.append(
                torch.linalg.matrix_norm(2.0 * module.lora_B.default.weight @ module.lora_A.default.weight, ord=2)
            )
        elif method["type"] == "full" and isinstance(module, torch.nn.Linear):
            norms.append(torch.linalg.matrix_norm(module.weight, ord=2))
    assert len(norms) > 4
    naive = 0.1 * sum(norm.square() for norm in norms)
    assert float(penalty.detach()) == pytest.approx(float(naive.detach()), rel=1e-3)
    wanted = torch.autograd.grad(naive, list(trained.values()), allow_unused=True)
    for name, one, other in zip(trained, found, wanted, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, rtol=0.05, atol=0.02 * float(other.abs().max()), msg=name)


@pytest.mark.parametrize("initialization", ["pissa", "olora"])
def test_what_the_factors_hold_of_the_base_is_no_update(initialization: str, tiny_bert: Path) -> None:
    method = {"type": "lora", "rank": 3, "alpha": 6, "initialization": initialization}
    job = job_of(checked(tiny_bert, TASK, [{"type": "spectral"}], method=method))
    assert float(job.hooks.penalty(job.model).detach()) == 0.0
    layers = [module for module in job.model.modules() if hasattr(module, "lora_A")]
    start = [2.0 * (layer.lora_B.default.weight @ layer.lora_A.default.weight).detach() for layer in layers]
    torch.manual_seed(1)
    with torch.no_grad():
        for value in trainable_parameters(job.model).values():
            value.add_(torch.randn_like(value), alpha=0.1)
    for _ in range(400):
        job.hooks.after_step(job.model, 1)
    updates = [2.0 * layer.lora_B.default.weight @ layer.lora_A.default.weight - own
               for layer, own in zip(layers, start, strict=True)]  # fmt: skip
    wanted = 0.01 / 2 * sum(float(torch.linalg.matrix_norm(update.detach(), ord=2)) ** 2 for update in updates)
    assert float(job.hooks.penalty(job.model).detach()) == pytest.approx(wanted, rel=1e-2)


def test_updates_end_smaller(tiny_bert: Path) -> None:
    def largest(strength: float | None) -> float:
        regularizers = [] if strength is None else [{"type": "spectral", "strength": strength}]
        job = job_of(checked(tiny_bert, TASK, regularizers))
        for number in range(1, 9):
            optimizer_step(job, Step(number, 0, [[0, 1, 2, 3], [4, 5, 6]], ends_epoch=False))
        layers = [module for module in job.model.modules() if hasattr(module, "lora_A")]
        updates = [layer.lora_B.default.weight @ layer.lora_A.default.weight for layer in layers]
        return max(float(torch.linalg.matrix_norm(update.detach(), ord=2)) for update in updates)

    assert largest(10.0) < 0.8 * largest(None)
