"""What is saved is what was trained, the loaded adapter does something, and the first model is gone by then."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch._subclasses.fake_tensor import FakeTensor

from peftlab.core.tensors import model_tensors
from peftlab.run import saving_stage
from peftlab.run.evaluation_stage import EvaluationStage
from peftlab.run.training_stage import TrainingStage

pytestmark = pytest.mark.slow


def run(command: Any, recipe: Path, *options: str) -> dict[str, Any]:
    sets = [word for option in options for word in ("--set", option)]
    return json.loads(command("run", recipe, "--output-dir", "out", "--json", *sets).stdout)


def loaded_otherwise(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any]) -> None:
    own = saving_stage.load_artifact

    def load(load_base: Any, folder: Path) -> Any:
        model = own(load_base, folder)
        with torch.no_grad():
            change(model)
        return model

    monkeypatch.setattr(saving_stage, "load_artifact", load)


VARIANTS = [
    "{type: lora}",
    "{type: lora, dora: true}",
    "{type: lora, initialization: pissa}",
    "{type: lora, initialization: olora, rslora: true}",
    "{type: lora, initialization: gaussian, target_modules: [query]}",
    "{type: corda, rows: 20}",
    "{type: lora_ga, rows: 20}",
    "{type: p_tuning, encoder: lstm}",
    "{type: prefix_tuning, projection: true}",
    "{type: houlsby_adapter, train_layer_norm: false}",
]


@pytest.mark.parametrize("method", VARIANTS)
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_what_was_trained_comes_back(method: str, model: str, command, recipe: Path, tiny_gpt2: Path) -> None:
    other = [f"model.path={tiny_gpt2}"] if model == "gpt2" else []
    if model == "gpt2":
        method = method.replace("[query]", "[c_attn]").replace("olora", "pissa")
    record = run(command, recipe, f"method={method}", "training.epochs=1", "measure=false", *other)
    assert record["status"] == "success", record["error"]
    for name in ("reload_agrees", "adapter_has_effect"):
        assert record["guards"][name]["status"] == "passed", record["guards"][name]


def zero(part: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.zero_()

    return change


def as_in_the_base(part: str, value: float) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.fill_(value)

    return change


def forgotten_biases(model: Any) -> None:
    """As if the file's biases had not been read; the tiny base's are all at zero, its norms' too."""
    for name, parameter in model.named_parameters():
        if name.endswith(".bias") and not name.startswith("classifier"):
            parameter.zero_()


def switched_off(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module._disable_adapters = True


NO_OPS: dict[str, Callable[[Any], Any]] = {
    "{type: lora}": zero("lora_B"),
    "{type: lora, dropout: 0.1}": switched_off,
    "{type: lora, initialization: pissa}": zero("lora_B"),
    "{type: adalora}": zero("lora_E"),
    "{type: ia3}": as_in_the_base("ia3_l", 1.0),
    "{type: bitfit}": forgotten_biases,
    "{type: pfeiffer_adapter}": zero(".adapter.2"),
}


@pytest.mark.parametrize("method", NO_OPS)
def test_an_adapter_that_does_nothing_after_loading_fails(
    method: str, command, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded_otherwise(monkeypatch, NO_OPS[method])
    record = run(command, recipe, f"method={method}", "training.epochs=1", "measure=false")
    assert record["status"] == "failed"
    assert record["guards"]["adapter_has_effect"]["status"] == "failed"
    assert record["guards"]["reload_agrees"]["status"] == "failed"


def test_a_head_that_does_not_come_back_fails(command, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded_otherwise(monkeypatch, zero("classifier.modules_to_save"))
    record = run(command, recipe, "training.epochs=1", "measure=false")
    assert record["guards"]["reload_agrees"]["status"] == "failed"
    assert record["guards"]["adapter_has_effect"]["status"] == "passed"


def nudge(model: Any) -> None:
    parameter = next(p for n, p in model.named_parameters() if "lora_B" in n)
    parameter.view(-1)[0] += 1e-6


def rounded(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            parameter.copy_(parameter.bfloat16())


@pytest.mark.parametrize("change", [nudge, rounded], ids=["one number by 1e-6", "rounded to bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_difference_that_logits_would_let_pass_fails(
    change: Callable[[Any], None], dtype: str, command, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logits of a base in bfloat16 may differ by 2e-2."""
    loaded_otherwise(monkeypatch, change)
    record = run(command, recipe, f"model.dtype={dtype}", "training.max_steps=4", "measure=false")
    guard = record["guards"]["reload_agrees"]
    assert guard["status"] == "failed"
    assert "not what was trained" in guard["detail"]


def storages() -> dict[int, int]:
    """Every tensor's memory in this process: address and bytes."""
    gc.collect()
    found = [item for item in gc.get_objects() if isinstance(item, torch.Tensor) and item.device.type == "cpu"]
    found = [item for item in found if not isinstance(item, FakeTensor)]  # of other tests: they have no storage
    return {item.untyped_storage().data_ptr(): item.untyped_storage().nbytes() for item in found}


@pytest.mark.parametrize("method", ["full", "lora", "prefix_tuning", "bitfit"])
def test_one_model_is_in_memory_when_the_saved_one_is_loaded_and_evaluated(
    method: str, command, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[weakref.ref[torch.nn.Parameter]] = []
    bytes_of: dict[str, int] = {}
    prepare, load = TrainingStage.prepare, saving_stage.load_artifact
    evaluate, before = EvaluationStage.evaluate, storages()

    def note(self: Any, model: Any, *arguments: Any) -> Any:
        trained.extend(weakref.ref(parameter) for parameter in model.parameters())
        return prepare(self, model, *arguments)

    def look(load_base: Any, folder: Path) -> Any:
        gc.collect()
        alive = [reference().shape for reference in trained if reference() is not None]
        assert not alive
        return load(load_base, folder)

    def weigh(self: Any, model: Any) -> None:
        own = {tensor.untyped_storage().data_ptr() for tensor in model_tensors(model)}
        alive = {place: size for place, size in storages().items() if place not in before}
        bytes_of["model"] = sum(size for place, size in alive.items() if place in own)
        bytes_of["others"] = sum(size for place, size in alive.items() if place not in own)
        evaluate(self, model)

    monkeypatch.setattr(TrainingStage, "prepare", note)
    monkeypatch.setattr(saving_stage, "load_artifact", look)
    monkeypatch.setattr(EvaluationStage, "evaluate", weigh)
    record = run(command, recipe, f"method={{type: {method}}}", "training.epochs=1")
    assert record["status"] == "success", record["error"]
    assert trained
    assert 0 <= bytes_of["others"] < bytes_of["model"] / 4  # a second model would be as much as the first
