"""FGM's gradient is that of a naive implementation, text by text, however the texts are batched or packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from peftlab.tasks.language.packing import packed
from peftlab.testing.training_jobs import TASKS, checked, examples_of, gradients_of, job_of
from peftlab.training.gradients import accumulate_gradients


def naive_gradients(job: Any, examples: list[dict[str, Any]], epsilon: float | None) -> dict[str, torch.Tensor]:
    """Each text alone, without a hook: embeddings go in, and are moved by ε g / ‖g‖."""
    model, terms = job.model, job.task.loss_terms(job.task.collate(examples, 0))
    table = model.get_input_embeddings()
    for example in examples:
        ids = torch.tensor([example["input_ids"]])

        def loss_of(embeddings: torch.Tensor, example: dict[str, Any] = example) -> torch.Tensor:
            logits = model(inputs_embeds=embeddings, attention_mask=torch.ones(1, embeddings.shape[1])).logits
            if "label" in example:
                return functional.cross_entropy(logits, torch.tensor([example["label"]])) / terms
            return functional.cross_entropy(logits[0], torch.tensor(example["labels"]), reduction="sum") / terms

        embeddings = table(ids).detach().requires_grad_()
        loss = loss_of(embeddings)
        (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
        loss.backward()
        length = 0.1 * embeddings[0].square().sum(-1).mean().sqrt() if epsilon is None else epsilon
        loss_of(embeddings.detach() + length * gradient / gradient.norm()).backward()
    return gradients_of(job)


@pytest.mark.parametrize("epsilon", [0.5, None])
@pytest.mark.parametrize("kind", TASKS)
def test_the_gradient_is_that_of_a_naive_implementation(
    kind: str, epsilon: float | None, request: pytest.FixtureRequest
) -> None:
    model, task = TASKS[kind]
    folder = request.getfixturevalue(model)
    examples = examples_of(kind, 7)
    plain, ours = (
        job_of(checked(folder, task, [])),
        job_of(checked(folder, task, [{"type": "fgm", "epsilon": epsilon}])),
    )
    with torch.no_grad():  # LoRA's B begins at zero, where a perturbation changes little
        for job in (plain, ours):
            torch.manual_seed(1)
            job.model.double()  # sums over texts in another order differ by more than a millionth in float32
            for parameter in job.model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.1)
    wanted = naive_gradients(plain, examples, epsilon)
    batches = [ours.task.collate(part, 0) for part in (examples[:4], examples[4:6], examples[6:])]
    accumulate_gradients(ours, batches)
    found = gradients_of(ours)
    assert found.keys() == wanted.keys()
    assert relative_distance(found, wanted) <= 1e-6


def relative_distance(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """Of the difference of two gradients to their length, over all parameters."""
    difference = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted])
    return float(difference.norm() / torch.cat([value.flatten() for value in wanted.values()]).norm())


def test_packed_texts_are_perturbed_each_by_itself(tiny_gpt2: Path) -> None:
    """Two texts in a row have a step of length ε each, not one of ε together."""
    task = {"type": "instruction_tuning", "max_length": 24}
    one, two = examples_of("instruction_tuning", 2)
    gradients = []
    for examples in ([one, two], [packed([one, two])]):
        job = job_of(checked(tiny_gpt2, task, [{"type": "fgm", "epsilon": 0.5}]))
        accumulate_gradients(job, [job.task.collate(examples, 0)])
        gradients.append(gradients_of(job))
    assert gradients[0].keys() == gradients[1].keys()
    assert relative_distance(*gradients) <= 1e-5


def test_a_frozen_embedding_gets_no_gradient_and_a_trained_one_both(tiny_bert: Path) -> None:
    task = TASKS["text_classification"][1]
    for method in ("lora", "full"):
        job = job_of(checked(tiny_bert, task, [{"type": "fgm"}], method={"type": method}))
        accumulate_gradients(job, [job.task.collate(list(job.split.examples), 0)])
        weight = job.model.get_input_embeddings().weight
        assert (weight.grad is None) == (method == "lora")
