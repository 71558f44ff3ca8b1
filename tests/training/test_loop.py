"""Gradient accumulation: how a step is cut into batches changes nothing but the order of the sums."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from peftlab.core.errors import ConfigError
from peftlab.core.hooks import Backward, TrainingHooks
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.token_classification import IGNORED, TokenClassification
from peftlab.training.gradients import accumulate_gradients
from peftlab.training.hooks import HookList
from peftlab.training.loop import optimizer_step
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.steps import Step
from peftlab.training.world import World


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
        bare_model=model,
        accelerator=Accelerator(cpu=True),
        world=World(),
        hooks=HookList([Penalised()]),
        graphs=None,
        micro_batches=MicroBatches(),
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


class Witness(TrainingHooks):
    """Notes what is called, and computes each batch twice."""

    def __init__(self, name: str, told: list[str], model: Toy) -> None:
        super().__init__()
        object.__setattr__(self, "registered_name", name)
        object.__setattr__(self, "told", told)
        object.__setattr__(self, "start", model.embedding.weight.detach().clone())

    def note(self, what: str) -> None:
        self.told.append(f"{self.registered_name} {what}")

    def around_backward(self, backward, model, batch):
        self.note("begins")
        loss = backward()
        backward(weight=0.5)
        self.note("ends")
        return loss

    def penalty(self, model):
        self.note("penalty")
        assert torch.equal(model.embedding.weight, self.start)
        return model.embedding.weight.square().sum()

    def after_step(self, model, step):
        self.note(f"after step {step}")
        weight = model.embedding.weight
        assert not torch.equal(weight, self.start)
        assert weight.grad is not None, "gradients are cleared only afterwards"
        assert torch.allclose(weight, self.start - 0.1 * weight.grad)
        assert torch.linalg.vector_norm(weight.grad) <= 0.5 + 1e-5, "the gradient was not clipped before the step"


def witnessed_job(names: tuple[str, ...], told: list[str]) -> SimpleNamespace:
    model, accelerator = Toy(per_token=False), Accelerator(cpu=True)
    return SimpleNamespace(
        task=TextClassification(),
        model=model,
        bare_model=model,
        accelerator=accelerator,
        world=World(),
        optimizer=accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1)),
        hooks=HookList([Witness(name, told, model) for name in names]),
        config=SimpleNamespace(max_gradient_norm=0.5),
        gradients=SimpleNamespace(is_watching=True, observe=lambda *_, **__: told.append("gradients")),
        roll_outs=None,
        micro_batches=MicroBatches(),
        ahead=None,
        graphs=None,
        split=SimpleNamespace(examples=[{"input_ids": list(range(1, 2 + n)), "label": n % 3} for n in range(6)]),
        pad_token_id=0,
    )


def test_hooks_are_called_in_the_order_that_is_promised() -> None:
    """AdaLoRA's importances need parameters after the optimizer's step, and gradients before they are cleared."""
    told: list[str] = []
    job = witnessed_job(("one", "two"), told)
    _, norm, _ = optimizer_step(job, Step(number=7, epoch=0, batches=[[0, 1, 2], [3, 4, 5]], ends_epoch=False))
    inner = ["two begins", "two ends"]
    assert told == [
        *("one begins", *inner, *inner, "one ends"),
        *("one begins", *inner, *inner, "one ends", "one penalty", "two penalty"),
        *("gradients", "one after step 7", "two after step 7"),
    ], "the penalty counts once a step, not once a batch nor once a pass, and knows nothing of what is around these"
    assert float(norm) > 0.5
    assert job.model.embedding.weight.grad is None


def test_who_is_outermost_does_not_mind_its_place() -> None:
    told: list[str] = []
    job = witnessed_job(("one", "two"), told)
    for hook in job.hooks._hooks:
        object.__setattr__(hook, "outermost", hook.registered_name == "two")
    again = HookList(job.hooks._hooks)
    again.around(Backward(job.task, job.task.training_loss, 1.0, lambda *_: torch.zeros(())), job.model, {})
    inner = ["one begins", "one ends"]
    assert told == ["two begins", *inner, *inner, "two ends"]


def test_passes_add_up_with_their_weights() -> None:
    """Two hooks that each add half of what is inside: (1 + 1/2)² times the gradient, and twice the penalty's."""
    batches = [[0, 1, 2], [3, 4, 5]]
    plain, twice = witnessed_job((), []), witnessed_job(("one", "two"), [])
    gradients = []
    for job in (plain, twice):
        collated = [job.task.collate([job.split.examples[at] for at in batch], 0) for batch in batches]
        loss = accumulate_gradients(job, collated)
        gradients.append((loss, job.model.embedding.weight.grad))
    weight = plain.model.embedding.weight.detach()
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.allclose(gradients[1][1], 2.25 * gradients[0][1] + 2 * 2 * weight, atol=1e-6)


def test_two_hooks_of_one_name_are_named() -> None:
    with pytest.raises(ConfigError, match="`doubled`"):
        HookList([Witness(name, [], Toy(per_token=False)) for name in ("one", "doubled", "doubled")])
