"""What every method must keep, on every kind of model. A new method is covered without a new test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from models import KINDS, Kind, toy_batch

from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.merge import merge
from peftlab.artifact.save import save_artifact
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.training.guards import BaseGuard, GradientGuard, check_trainable_parameters
from tests.small_methods import PEFT_ADAPTERS, small_method

STEPS = 30
ENOUGH = ("bert", "gpt2-lm")
"""Kinds for methods that share a class: plain and transposed matrices."""
NOT_TRANSPOSED = ("c3a", "hra", "loha", "lokr", "miss", "oft", "road", "shira")


class NoTokenizer:
    def save_pretrained(self, folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (Path(folder) / name).write_text("{}")


def case_of(name: str, kind: Kind) -> Any:
    return pytest.param((name, kind), id=f"{name}-{kind.name}")


CASES = [
    case_of(name, kind)
    for name in METHODS
    for kind in KINDS
    if name not in PEFT_ADAPTERS or kind.name == "bert" or (kind.name == "gpt2-lm" and name not in NOT_TRANSPOSED)
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, Kind]:
    return request.param


@pytest.fixture
def method(case: tuple[str, Kind]) -> Method:
    return small_method(case[0])


@pytest.fixture
def kind(case: tuple[str, Kind]) -> Kind:
    return case[1]


def wrap(method: Method, kind: Kind, context: MethodContext | None = None) -> Any:
    """The wrapped model; the test is over where the method refuses this kind of model, in words."""
    base = kind.build()
    context = context or kind.context(STEPS)
    torch.manual_seed(0)
    try:
        method.check(kind.facts(base))
        return method.apply(base, context)
    except UnsupportedError as error:
        assert len(str(error)) > 20
        pytest.skip(f"refused: {error.message}")


def step(method: Method, model: Any, kind: Kind, optimizer: Any, batch: dict, number: int, guard: Any = None) -> float:
    loss = kind.task.loss(kind.task.logits(model, batch), batch) / kind.task.loss_terms(batch)
    penalty = method.penalty(model)
    (loss if penalty is None else loss + penalty).backward()
    if guard is not None:
        guard.observe(model)
    optimizer.step()
    method.after_step(model, number)
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def optimizer_of(method: Method, model: Any) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=method.default_learning_rate, weight_decay=0.0)


def test_most_methods_take_most_models() -> None:
    refused = []
    for name in METHODS:
        for kind in KINDS:
            method, base = small_method(name), kind.build()
            if name in PEFT_ADAPTERS and kind.name not in ENOUGH:
                continue
            try:
                method.check(kind.facts(base))
                method.apply(base, kind.context(STEPS))
            except UnsupportedError:
                refused.append((name, kind.name))
    assert set(refused) == {
        ("bitfit", "llama"),
        ("bitfit", "llama-lm"),
        ("bitfit", "t5"),
        *(
            ("linear_probe", kind) for kind in ("bert-lm", "gpt2-lm", "llama-lm", "t5", "bart")
        ),  # they have no head of their own
        ("prefix_tuning", "distilbert"),
        ("prompt_tuning", "distilbert"),
        ("p_tuning", "distilbert"),
        *((name, "gpt2-lm") for name in NOT_TRANSPOSED),
    }


def test_only_what_is_meant_to_train_does(method: Method, kind: Kind) -> None:
    base = kind.build()
    names = {id(parameter): name for name, parameter in base.named_parameters()}
    try:
        method.check(kind.facts(base))
        model = method.apply(base, kind.context(STEPS))
    except UnsupportedError:
        pytest.skip("refused")
    guard = check_trainable_parameters(model, method, base_names=names, head_modules=kind.head)
    assert guard.status == "passed", guard.detail


def test_training_learns_and_leaves_the_base_alone(method: Method, kind: Kind) -> None:
    model = wrap(method, kind)
    batch, optimizer = toy_batch(kind), optimizer_of(method, model)
    base, gradients = BaseGuard(model), GradientGuard(model)
    # Prefix tuning's cache can only be used in one mode, and dropout is zero: eval mode is as good here.
    losses = [step(method, model, kind, optimizer, batch, number, gradients) for number in range(1, STEPS + 1)]
    assert min(losses[-3:]) < losses[0] - 0.02, losses
    assert gradients.result().status == "passed", gradients.result().detail
    assert base.result(model).status in ("passed", "not_applicable"), base.result(model).detail
    for name, guard in method.guards(model, kind.context(STEPS)).items():
        assert guard.status == "passed", (name, guard.detail)


def trained(method: Method, kind: Kind, steps: int = 12) -> Any:
    model = wrap(method, kind, replace(kind.context(), total_steps=steps))
    optimizer, batch = optimizer_of(method, model), toy_batch(kind)
    for number in range(1, steps + 1):
        step(method, model, kind, optimizer, batch, number)
    return model.eval()


def logits_of(model: Any, kind: Kind) -> torch.Tensor:
    with torch.inference_mode():
        return kind.task.logits(model, toy_batch(kind))


def test_saved_and_reloaded_logits_are_equal_and_so_are_merged_ones(method: Method, kind: Kind, tmp_path: Path) -> None:
    model = trained(method, kind)
    before = logits_of(model, kind)
    context = replace(kind.context(), total_steps=12)
    saved = save_artifact(
        model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=context, base_path="some/base"
    )
    assert saved.name == ("model" if method.trains_base else "adapter")
    assert (saved / "config.json").is_file()
    assert not list(saved.rglob("*.bin"))
    torch.manual_seed(5)  # nothing may depend on the state of the generator
    again = load_artifact(kind.build, tmp_path)
    assert torch.allclose(logits_of(again, kind), before, atol=1e-5)
    assert not torch.allclose(logits_of(kind.build(), kind), before, atol=1e-3)
    if method.mergeable:
        assert torch.equal(logits_of(model, kind), before)
        check_that_merging_keeps_the_logits(model, method, kind, before)


def check_that_merging_keeps_the_logits(model: Any, method: Method, kind: Kind, before: torch.Tensor) -> None:
    """Ends the model; beside the test of saving, which trains the same one."""
    if not isinstance(model, peft.PeftModel):  # the method has changed the base's own weights: it is merged already
        plain = kind.build()
        plain.load_state_dict(model.state_dict(), strict=True)
        assert torch.allclose(logits_of(plain, kind), before, atol=1e-5)
        return
    assert torch.allclose(logits_of(merge(model, method), kind), before, atol=1e-4)


def test_a_resumed_method_goes_on_alike(method: Method, kind: Kind) -> None:
    """Parameters, optimizer and the method's own state are all that a run needs."""
    if kind.name not in ("bert", "gpt2"):
        pytest.skip("two kinds are enough")
    batch = toy_batch(kind)

    def start() -> tuple[Any, torch.optim.Optimizer]:
        model = wrap(method, kind)
        return model, optimizer_of(method, model)

    model, optimizer = start()
    # A class that keeps no state needs few steps; AdaLoRA prunes within twenty.
    half = 4 if method.registered_name in PEFT_ADAPTERS else 10
    for number in range(1, 2 * half + 1):
        if number == half + 1:
            parameters = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
            state = {name: value.clone() for name, value in method.state(model).items()}
            moments = {k: {n: v.clone() for n, v in s.items()} for k, s in optimizer.state_dict()["state"].items()}
        step(method, model, kind, optimizer, batch, number)
    other, fresh = start()
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(parameters[name])
    method.restore(other, state)
    fresh.load_state_dict({"state": moments, "param_groups": fresh.state_dict()["param_groups"]})
    for number in range(half + 1, 2 * half + 1):
        step(method, other, kind, fresh, batch, number)
    assert torch.equal(logits_of(model, kind), logits_of(other, kind))


@pytest.mark.parametrize("name", METHODS.names())
def test_a_config_is_written_and_read_back(name: str) -> None:
    method = small_method(name)
    dumped = method.model_dump(mode="json")
    assert dumped["type"] == method.registered_name
    assert type(method).model_validate(dumped) == method


@pytest.mark.parametrize("name", METHODS.names())
def test_every_key_and_method_is_described(name: str) -> None:
    method = METHODS[name]
    assert (method.__doc__ or "").strip()
    assert method.paper.startswith("https://")
    for key, field in method.model_fields.items():
        assert field.description, key
