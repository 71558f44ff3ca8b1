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
from peftlab.testing.training_jobs import TASKS, checked, examples_of, gradients_of, job_of
from peftlab.training.gradients import accumulate_gradients
from tests.conftest import sentences
from tests.regularizers.test_fgm import relative_distance


def hook_of(job: Any) -> Debiasing:
    return next(hook for hook in job.hooks._hooks if isinstance(hook, Debiasing))


def add(sums: dict[str, torch.Tensor], gradients: Any) -> None:
    for key, gradient in zip(sums, gradients, strict=True):
        sums[key] = sums[key] if gradient is None else sums[key] + gradient


@pytest.mark.parametrize("given_label", [True, False])
def test_the_gradient_is_that_of_the_task_less_that_of_the_adversary(tiny_bert: Path, given_label: bool) -> None:
    _, task = TASKS["text_classification"]
    settings = {"type": "debiasing", "strength": 0.9, "given_label": given_label, "hidden": 8, "warmup": 0.0}
    examples = examples_of("text_classification")
    examples[3][GROUP] = UNKNOWN
    plain = job_of(checked(tiny_bert, task, []), examples=examples)
    ours = job_of(checked(tiny_bert, task, [settings]), examples=examples)
    hook = hook_of(ours)
    hook._steps = hook._total // 2
    for weight in hook._weights.values():
        weight.data *= 4
    batch = ours.task.collate(examples, 0)
    assert batch[GROUP].tolist() == [0, 0, 1, UNKNOWN, 0, 0, 1, 1]
    found_loss = accumulate_gradients(ours, [batch])

    # The naive way: the two losses apart, each with its own gradients.
    output = plain.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
    )
    states, logits = output.hidden_states[-1], output.logits
    weights = {key: value.detach().clone().requires_grad_() for key, value in hook._weights.items()}
    parameters = {name: p for name, p in plain.model.named_parameters() if p.requires_grad}
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    own_gradients = {key: torch.zeros_like(value) for key, value in weights.items()}
    strength = hook._strength_now()
    assert strength == pytest.approx(0.9 * (2 / (1 + torch.tensor(-5.0).exp().item()) - 1))
    count, capped, loss = len(examples), 0, torch.zeros(())
    for at, (label, group) in enumerate(zip(batch["labels"].tolist(), batch[GROUP].tolist(), strict=True)):
        own = functional.cross_entropy(logits[at : at + 1], batch["labels"][at : at + 1], reduction="sum") / count
        loss = loss + own.detach()
        add(expected, torch.autograd.grad(own, list(parameters.values()), retain_graph=True))
        if group == UNKNOWN:
            continue
        read = torch.cat([states[at, 0], logits[at]])
        inner = torch.relu(weights["in"] @ read + weights["in_bias"])
        said = weights["out"] @ inner + weights["out_bias"]
        said = said[2 * label : 2 * label + 2] if given_label else said
        wrong = -said.log_softmax(0)[group] / count
        add(own_gradients, torch.autograd.grad(wrong, list(weights.values()), retain_graph=True))
        (gradient,) = torch.autograd.grad(wrong, read, retain_graph=True)
        for source, values, part in (
            (states, states[at, 0], gradient[: states.shape[2]]),
            (logits, logits[at], gradient[states.shape[2] :]),
        ):
            most = torch.autograd.grad(own, source, retain_graph=True)[0].norm()
            capped += bool(part.norm() > most)
            turned = -strength * part * min(1.0, float(most / part.norm()))
            add(expected, torch.autograd.grad(values, list(parameters.values()), turned, retain_graph=True,
                                              allow_unused=True))  # fmt: skip
    assert capped > 0  # so that the bound is in it
    torch.testing.assert_close(found_loss, loss, rtol=1e-5, atol=1e-6)
    assert relative_distance(gradients_of(ours), expected) <= 1e-4
    for value, gradient in zip(hook._weights.values(), own_gradients.values(), strict=True):
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


def test_what_overflows_in_float16_teaches_the_adversary_nothing(tiny_bert: Path) -> None:
    """The model takes no step then, and its scale falls; an adversary that is not a number any more would stay so."""
    job = job_of(checked(tiny_bert, TASKS["text_classification"][1], [{"type": "debiasing"}]))
    hook = hook_of(job)
    accumulate_gradients(job, [job.task.collate(list(job.split.examples), 0)])
    before = {key: value.clone() for key, value in hook.state(job.model).items()}
    hook._weights["in"].grad[0, 0] = float("inf")
    hook.after_step(job.model, 1)
    for key, value in hook.state(job.model).items():
        assert key == "step" or torch.equal(value, before[key]), key
    assert all(weight.grad is None for weight in hook._weights.values())


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


@pytest.mark.slow
def test_what_tells_the_group_alone_decides_less(tiny_bert: Path) -> None:
    """A word and a group both go with the class in four of five texts: a plain model goes by both."""
    generator = torch.Generator().manual_seed(0)
    draws = (torch.rand(200, 2, generator=generator) < 0.8).tolist()
    examples = []
    for at, (word_agrees, group_agrees) in enumerate(draws):
        label = at % 2
        word, group = label if word_agrees else 1 - label, label if group_agrees else 1 - label
        examples.append({"input_ids": [2, 5 + word, 11 + group, 20, 3], "label": label, GROUP: group})
    plain = _gaps(tiny_bert, examples, [])
    fair = [_gaps(tiny_bert, examples, [{"type": "debiasing"}], seed=seed) for seed in (1, 2)]
    assert plain[0] > 0.2
    assert abs(sum(gap for gap, _ in fair) / 2) < 0.5 * plain[0], (plain, fair)
    assert all(word > 0.25 for _, word in fair), fair  # the word still decides


def _gaps(tiny_bert: Path, examples: Any, regularizers: Any, *, seed: int = 1) -> tuple[float, float]:
    """What the group, and what the word, adds to the probability of the second class after 80 steps."""
    job = job_of(checked(tiny_bert, TASKS["text_classification"][1], regularizers), examples=examples, steps=1)
    task, order = job.task, torch.Generator().manual_seed(seed)
    trained = [parameter for parameter in job.model.parameters() if parameter.requires_grad]
    for hook in job.hooks._hooks:
        if isinstance(hook, Debiasing):
            hook._total = 80
    for step in range(1, 81):
        drawn = torch.randperm(len(examples), generator=order)[:32].tolist()
        accumulate_gradients(job, [task.collate([examples[at] for at in drawn], 0)])
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        job.optimizer.step()
        job.hooks.after_step(job.model, step)
        job.optimizer.zero_grad(set_to_none=True)
    job.model.eval()
    ids = [{"input_ids": [2, 5 + word, 11 + group, 20, 3], "label": 0} for word in (0, 1) for group in (0, 1)]
    with torch.no_grad():
        said = task.logits(job.model, task.collate(ids, 0)).softmax(-1)[:, 1].view(2, 2)
    return float((said[:, 1] - said[:, 0]).mean()), float((said[1] - said[0]).mean())
