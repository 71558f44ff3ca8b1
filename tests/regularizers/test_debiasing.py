"""Debiasing: gradients as two losses apart give them, groups of a column, and an effect that can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import peftlab
from peftlab.core.errors import UserError
from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.splits import Split
from peftlab.regularizers.debiasing import GROUP, UNKNOWN, Debiasing
from peftlab.training.gradients import accumulate_gradients
from tests.conftest import sentences
from tests.regularizers.regularized_jobs import TASKS, checked, examples_of, gradients_of, job_of
from tests.regularizers.test_fgm import relative_distance


def hook_of(job: Any) -> Debiasing:
    return next(hook for hook in job.hooks._hooks if isinstance(hook, Debiasing))


@pytest.mark.parametrize("given_label", [True, False])
def test_the_gradient_is_that_of_the_task_less_that_of_the_adversary(tiny_bert: Path, given_label: bool) -> None:
    _, task = TASKS["text_classification"]
    settings = {"type": "debiasing", "strength": 2.0, "given_label": given_label, "hidden": 8, "warmup": 0.0}
    examples = examples_of("text_classification")
    examples[3][GROUP] = UNKNOWN
    plain = job_of(checked(tiny_bert, task, []), examples=examples)
    ours = job_of(checked(tiny_bert, task, [settings]), examples=examples)
    hook = hook_of(ours)
    hook._steps = hook._total // 2
    batch = ours.task.collate(examples, 0)
    assert batch[GROUP].tolist() == [0, 0, 1, UNKNOWN, 0, 0, 1, 1]
    found_loss = accumulate_gradients(ours, [batch])

    # The naive way: the two losses apart, each with its own gradients.
    output = plain.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
    )
    read = torch.cat([output.hidden_states[-1][:, 0], output.logits], dim=1)
    weights = {key: value.detach().clone().requires_grad_() for key, value in hook._weights.items()}
    wrong = 0.0
    for at, (label, group) in enumerate(zip(batch["labels"].tolist(), batch[GROUP].tolist(), strict=True)):
        if group == UNKNOWN:
            continue
        inner = torch.relu(weights["in"] @ read[at] + weights["in_bias"])
        said = weights["out"] @ inner + weights["out_bias"]
        said = said[2 * label : 2 * label + 2] if given_label else said
        wrong = wrong - said.log_softmax(0)[group]
    wrong = wrong / len(examples)
    loss = functional.cross_entropy(output.logits, batch["labels"])
    parameters = {name: p for name, p in plain.model.named_parameters() if p.requires_grad}
    adversary = torch.autograd.grad(wrong, [*parameters.values(), *weights.values()], retain_graph=True)
    own = torch.autograd.grad(loss, list(parameters.values()))
    strength = hook._strength_now()
    assert strength == pytest.approx(2.0 * (2 / (1 + torch.tensor(-5.0).exp().item()) - 1))
    expected = {
        name: mine - strength * theirs
        for name, mine, theirs in zip(parameters, own, adversary[: len(parameters)], strict=True)
    }
    torch.testing.assert_close(found_loss, loss.detach(), rtol=1e-5, atol=1e-6)
    assert relative_distance(gradients_of(ours), expected) <= 1e-4
    for value, gradient in zip(hook._weights.values(), adversary[len(parameters) :], strict=True):
        torch.testing.assert_close(value.grad, gradient, rtol=1e-4, atol=1e-6)

    # And the adversary's step is Adam's.
    before = {key: value.detach().clone().requires_grad_() for key, value in hook._weights.items()}
    adam = torch.optim.Adam(before.values(), lr=hook.learning_rate)
    for value, other in zip(before.values(), hook._weights.values(), strict=True):
        value.grad = other.grad.clone()
    hook.after_step(ours.model, 1)
    adam.step()
    for value, other in zip(before.values(), hook._weights.values(), strict=True):
        torch.testing.assert_close(value.detach(), other.detach(), rtol=1e-4, atol=1e-6)


def test_a_column_says_the_groups(tiny_bert: Path, tmp_path: Path) -> None:
    rows = sentences(48)
    groups = ["f", "m", " ", "f"] * 12
    table = tmp_path / "rows.csv"
    table.write_text(
        "text,label,sex,team\n"
        + "".join(f"{text},{label},{group},red\n" for (text, label), group in zip(rows, groups, strict=True))
    )

    def run(name: str, *regularizers: dict[str, Any], method: str = "lora") -> Any:
        recipe = peftlab.Recipe.from_dict(
            {
                "name": name,
                "measure": False,
                "model": {"path": str(tiny_bert)},
                "task": {"type": "text_classification", "max_length": 32},
                "data": {"source": str(table), "augmentation": [{"type": "token_swap", "probability": 0.5}]},
                "method": {"type": method},
                "training": {"max_steps": 3, "batch_size": 8, "regularizers": list(regularizers)},
                "waive_guards": ["answers_vary"],
            }
        )
        return peftlab.run_recipe(recipe, output_dir=tmp_path / name).record

    plain, fair = run("plain"), run("fair", {"type": "debiasing", "by": "sex"})
    assert fair.status == "success", fair.error
    assert fair.recipe["training"]["regularizers"][0]["groups"] == ["f", "m"]
    assert fair.data.fingerprint == plain.data.fingerprint  # so that the two are compared as runs on the same data
    for by, expected in (
        ("sexx", "no training row has a value in the column `sexx`"),
        ("team", "all training rows are of one group, 'red'"),
        ("label", "the task's own"),
    ):
        with pytest.raises(UserError, match=expected):
            run("bad", {"type": "debiasing", "by": by})
    with pytest.raises(UserError, match="no training row is of the group 'x'"):
        run("bad", {"type": "debiasing", "by": "sex", "groups": ["f", "x"]})


def test_rows_without_a_group_are_no_group() -> None:
    hook: Any = REGULARIZERS["debiasing"](by="sex")
    train = Split("train", range(5), {"sex": ["b", None, " ", "a", 3]})
    learned = hook.learn(train)
    assert learned.groups == ["3", "a", "b"]
    assert learned.example_values(train)[GROUP] == [2, UNKNOWN, UNKNOWN, 1, 0]


def test_the_adversary_ends_up_knowing_less(tiny_bert: Path) -> None:
    """A token gives the group away: what can be told of it from the answers shrinks, and the classes stay."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for at in range(64):
        label, group = at % 2, int(torch.rand(1, generator=generator) < (0.85 if at % 2 else 0.15))
        words = torch.randint(20, 28, (6,), generator=generator).tolist()
        examples.append({"input_ids": [2, 5 + label, 11 + group, *words, 3], "label": label, GROUP: group})
    gaps = {}
    for name, own in {"plain": [], "fair": [{"type": "debiasing", "strength": 3.0}]}.items():
        job = job_of(checked(tiny_bert, TASKS["text_classification"][1], own), examples=examples, steps=1)
        optimizer, task = job.optimizer, job.task
        for hook in job.hooks._hooks:
            if isinstance(hook, Debiasing):
                hook._total = 60
        for step in range(1, 61):
            batch = task.collate([examples[at] for at in torch.randperm(64, generator=generator)[:32].tolist()], 0)
            accumulate_gradients(job, [batch])
            optimizer.step()
            job.hooks.after_step(job.model, step)
            optimizer.zero_grad(set_to_none=True)
        job.model.eval()
        with torch.no_grad():
            pairs = [
                task.logits(job.model, task.collate([{**e, "input_ids": [*e["input_ids"][:2], 11 + g, *e["input_ids"][3:]]}
                            for e in examples], 0)).softmax(-1)[:, 1]
                for g in (0, 1)
            ]  # fmt: skip
            right = (task.logits(job.model, task.collate(examples, 0)).argmax(1) == torch.arange(64) % 2).float().mean()
        assert right > 0.95
        gaps[name] = float((pairs[0] - pairs[1]).abs().mean())
    assert gaps["fair"] < 0.7 * gaps["plain"], gaps
