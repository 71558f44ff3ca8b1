"""Gradient accumulation: how a step is cut into batches changes nothing but the order of the sums."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from accelerate import Accelerator

from peftlab.core.hooks import TrainingHooks
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.token_classification import IGNORED, TokenClassification
from peftlab.training.hooks import HookList
from peftlab.training.loop import accumulate_gradients, optimizer_step
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.steps import Step


class Toy(torch.nn.Module):
    """Token embeddings; averaged over the text, or not."""

    def __init__(self, per_token: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.per_token = torch.nn.Embedding(20, 3), per_token

    def forward(self, input_ids, attention_mask):
        states = self.embedding(input_ids) * attention_mask[..., None]
        return SimpleNamespace(logits=states if self.per_token else states.sum(1) / attention_mask.sum(1)[:, None])


class Penalised(TrainingHooks):
    """A penalty on the embeddings."""

    def penalty(self, model):
        return model.embedding.weight.square().sum()


def gradients_of(task, examples, cuts, per_token: bool):
    model = Toy(per_token)
    job = SimpleNamespace(
        task=task,
        model=model,
        accelerator=Accelerator(cpu=True),
        hooks=HookList([Penalised()]),
    )
    batches = [task.collate(examples[start:stop], 0) for start, stop in cuts]
    return accumulate_gradients(job, batches), model.embedding.weight.grad


def test_uneven_batches_of_texts() -> None:
    examples = [{"input_ids": list(range(1, 2 + n)), "label": n % 3} for n in range(7)]
    whole = gradients_of(TextClassification(), examples, [(0, 7)], False)
    cut = gradients_of(TextClassification(), examples, [(0, 1), (1, 5), (5, 7)], False)
    assert torch.allclose(whole[0], cut[0])
    assert torch.allclose(whole[1], cut[1], atol=1e-6)


def test_batches_with_unequal_numbers_of_words() -> None:
    """A mean of each batch's mean would weigh the words of short texts more."""
    examples = []
    for n in range(6):
        labels = [(n + k) % 3 if k % 2 else IGNORED for k in range(2 * n + 2)]
        examples.append({"input_ids": [k + 1 for k in range(2 * n + 2)], "label": labels, "tags": [0], "places": [1]})
    whole = gradients_of(TokenClassification(), examples, [(0, 6)], True)
    cut = gradients_of(TokenClassification(), examples, [(0, 2), (2, 3), (3, 6)], True)
    assert torch.allclose(whole[0], cut[0])
    assert torch.allclose(whole[1], cut[1], atol=1e-6)


def test_hooks_are_called_in_the_order_that_methods_rely_on() -> None:
    """AdaLoRA's importances need parameters after the optimizer's step, and gradients before they are cleared."""
    told: list[str] = []
    examples = [{"input_ids": list(range(1, 2 + n)), "label": n % 3} for n in range(6)]
    model = Toy(per_token=False)
    weight = model.embedding.weight
    start = weight.detach().clone()

    def penalty(_: torch.nn.Module) -> torch.Tensor:
        told.append("penalty")
        assert torch.equal(weight, start)
        return weight.square().sum()

    def after_step(_: torch.nn.Module, number: int) -> None:
        told.append(f"after step {number}")
        assert not torch.equal(weight, start)
        assert weight.grad is not None
        assert torch.allclose(weight, start - 0.1 * weight.grad)
        assert torch.linalg.vector_norm(weight.grad) <= 0.5 + 1e-5, "the gradient was not clipped before the step"

    accelerator = Accelerator(cpu=True)
    job = SimpleNamespace(
        task=TextClassification(),
        model=model,
        accelerator=accelerator,
        optimizer=accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1)),
        method=SimpleNamespace(training_penalty=penalty, after_optimizer_step=after_step),
        config=SimpleNamespace(max_gradient_norm=0.5),
        gradients=SimpleNamespace(is_watching=True, observe=lambda _: told.append("gradients")),
        micro_batches=MicroBatches(),
        split=SimpleNamespace(examples=examples),
        pad_token_id=0,
    )
    _, norm, _ = optimizer_step(job, Step(number=7, epoch=0, batches=[[0, 1, 2], [3, 4, 5]], ends_epoch=False))
    assert told == ["penalty", "gradients", "after step 7"], "the penalty counts once a step, not once a batch"
    assert float(norm) > 0.5
    assert weight.grad is None
