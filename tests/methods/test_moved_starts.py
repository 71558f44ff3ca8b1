"""CorDA and LoRA-GA: a part of the base moves into the update, the one that their papers name, and nothing else changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from training_rows import Rows, recipe

import peftlab
from peftlab.core.errors import ConfigError, DataError, UnsupportedError
from peftlab.core.method import METHODS
from peftlab.core.task import TASKS
from peftlab.core.tensors import model_tensors
from peftlab.measurement.memory import LiveBytes
from peftlab.methods._layer_reading import grouped
from peftlab.testing.tiny_models import KINDS, Kind
from peftlab.training.rows_ahead import EncodedRows

pytestmark = pytest.mark.slow
BERT = next(kind for kind in KINDS if kind.name == "bert")
GPT2 = next(kind for kind in KINDS if kind.name == "gpt2")
STARTS = ("corda", "lora_ga")


def started(name: str, kind: Kind = BERT, batches: int = 6, **keys: Any) -> tuple[nn.Module, Rows]:
    """A model whose update has begun, and the rows that it began with."""
    method, rows = METHODS[name](**{"rank": 4, "alpha": 6, **keys}), Rows(kind, batches)
    model = method.apply(kind.build(), kind.context()).eval()
    method.take_rows(model, rows)
    return model, rows


def layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, part in model.named_modules():
        if hasattr(part, "lora_A"):
            yield name, part


def moved(layer: Any) -> Tensor:
    """What stands in the update, outputs × inputs."""
    return layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight


def matrix(kind: Kind, name: str) -> Tensor:
    """Of the untouched base, outputs × inputs."""
    layer = kind.build().get_submodule(name.removeprefix("base_model.model."))
    return layer.weight.t() if type(layer).__name__ == "Conv1D" else layer.weight


@pytest.mark.parametrize("kind", [BERT, GPT2], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", STARTS)
def test_the_model_computes_as_its_base_at_first(name: str, kind: Kind) -> None:
    model, rows = started(name, kind)
    base = kind.build()
    for batch in rows.all():
        with torch.no_grad():
            assert torch.dist(model(**batch).logits, base(**batch).logits) < 1e-4
    for own, layer in layers(model):
        part = moved(layer)
        frozen = layer.get_base_layer().weight
        frozen = frozen.t() if layer.fan_in_fan_out else frozen
        assert part.norm() > 1e-3, own
        assert torch.allclose(frozen + part, matrix(kind, own), atol=1e-5), own
    assert all(parameter.grad is None for parameter in model.parameters())


def test_corda_moves_what_the_states_use_most() -> None:
    """W C = U S Vᵀ; the largest singular values of U S Vᵀ C⁻¹ move, with a hundredth of C's diagonal added to it."""
    model, rows = started("corda")
    read: dict[str, list[Tensor]] = {}
    base = BERT.build()
    names = {name.removeprefix("base_model.model."): name for name, _ in layers(model)}
    for name in names:
        base.get_submodule(name).register_forward_pre_hook(
            lambda _layer, inputs, name=name: read.setdefault(name, []).append(inputs[0])
        )
    masks = []
    for batch in rows.all():
        with torch.no_grad():
            base(**batch)
        masks.append(batch["attention_mask"].bool())
    for name, wrapped in names.items():
        states = torch.cat([own[mask] if own.dim() == 3 else own for own, mask in zip(read[name], masks, strict=True)])
        states, weight = states.double().numpy(), base.get_submodule(name).weight.detach().double().numpy()
        moments = states.T @ states
        moments += 0.01 * np.eye(len(moments)) * np.mean(np.diag(moments))
        left, strength, right = np.linalg.svd(weight @ moments, full_matrices=False)
        expected = left[:, :4] * strength[:4] @ right[:4] @ np.linalg.inv(moments)
        part = moved(model.get_submodule(wrapped)).detach().double().numpy()
        assert np.linalg.norm(part - expected) < 1e-2 * np.linalg.norm(expected), name


def test_corda_needs_no_package_that_peft_does_not_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peft's own module for CorDA imports attrs, which a plain installation lacks."""
    monkeypatch.setitem(sys.modules, "attr", None)
    monkeypatch.delitem(sys.modules, "peft.tuners.lora.corda", raising=False)
    started("corda")


def gradients(rows: Rows, kind: Kind = BERT) -> dict[str, Tensor]:
    """Of the base's own matrices, by autograd."""
    base = kind.build()
    for batch in rows.all():
        rows.loss(base, batch).backward()
    return {f"base_model.model.{name}": layer.weight.grad for name, layer in base.named_modules() if is_linear(layer)}


def is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) and layer.weight.grad is not None


def test_lora_ga_begins_with_the_gradients_directions() -> None:
    model, rows = started("lora_ga", rows=8, gamma=9.0)
    whole = gradients(rows)
    for name, layer in layers(model):
        left, strength, right = np.linalg.svd(whole[name].double().numpy(), full_matrices=False)
        if strength[8] > 0.5 * strength[7] or strength[4] > 0.9 * strength[3]:
            continue  # directions of like strength are mixed by any method
        size = whole[name].shape[0] ** 0.5 / 9.0
        down = layer.lora_A["default"].weight.detach().double().numpy()
        up = layer.lora_B["default"].weight.detach().double().numpy()
        assert down.T @ down == pytest.approx(size * right[:4].T @ right[:4], abs=2e-2 * size), name
        assert up @ up.T == pytest.approx(size * left[:, 4:8] @ left[:, 4:8].T, abs=2e-2 * size), name


def test_lora_ga_first_step_is_nearer_to_that_of_full_tuning() -> None:
    """By the cosine between the gradient of each matrix and what a small step changes in the update."""
    rows = Rows(BERT, 6)
    whole = gradients(rows)

    def agreement(model: nn.Module) -> float:
        for batch in rows.all():
            rows.loss(model, batch).backward()
        cosines = []
        for name, layer in layers(model):
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            change = up.grad @ down + up @ down.grad
            cosine = nn.functional.cosine_similarity(change.detach().flatten(), whole[name].flatten(), dim=0)
            cosines.append(float(cosine))
        return float(np.mean(cosines))

    plain = METHODS["lora"](rank=4).apply(BERT.build(), BERT.context()).eval()
    assert agreement(started("lora_ga")[0]) > agreement(plain) + 0.1


@pytest.mark.parametrize("name", STARTS)
def test_layers_that_do_not_fit_into_memory_at_once_begin_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, _ = started(name)
    monkeypatch.setattr("peftlab.methods._moved_start.BYTES_AT_ONCE", 10_000)
    in_turns, _ = started(name)
    for one, other in zip(at_once.parameters(), in_turns.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_groups_hold_every_layer_once() -> None:
    sizes = {"a": 3, "b": 4, "c": 9, "d": 1, "e": 1}
    assert list(grouped(sizes, 7)) == [["a", "b"], ["c"], ["d", "e"]]
    assert list(grouped({}, 7)) == []


def test_what_a_matrix_cannot_give_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"lora_ga cannot take rank 40 from .*, whose rank is at most 32"):
        METHODS["lora_ga"](rank=20).apply(BERT.build(), BERT.context())
    with pytest.raises(UnsupportedError, match="corda changes the base's matrices, and nf4"):
        METHODS["corda"]().check_quantization("nf4")
    with pytest.raises(UnsupportedError, match="lora_ga changes the base's matrices when it begins"):
        METHODS["lora_ga"]().check_offload()
    with pytest.raises(ConfigError, match="corda: dora: should be False"):
        METHODS["corda"](dora=True)


@pytest.mark.parametrize(("name", "told"), [("corda", "reads nothing"), ("lora_ga", "gets no gradient")])
def test_a_layer_that_takes_no_part_is_named(name: str, told: str) -> None:
    method = METHODS[name](rank=4)
    model = method.apply(BERT.build(), BERT.context())
    with pytest.raises(DataError, match=rf"base_model\.\S+ {told}"):
        method.take_rows(model, Rows(BERT, 0))


def test_a_task_whose_loss_is_of_what_the_model_writes_has_no_first_gradient() -> None:
    task = TASKS["turing_machine_reinforcement"]()
    rows = EncodedRows(task, [], 0, torch.device("cpu"), seed=0)
    with pytest.raises(UnsupportedError, match="turing_machine_reinforcement has no loss before the model has written"):
        next(rows.learn(BERT.build(), 8))


def test_what_was_moved_lies_in_the_memory_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTensorMode():
        held = {"x.lora_A.weight": torch.empty(2, 3, device="cuda"), "head.weight": torch.empty(2, device="cuda")}
        monkeypatch.setattr("peft.get_peft_model_state_dict", lambda _model, **_: held)
        model: Any = nn.Module()
        METHODS["lora"](initialization="pissa").note_start(model)
    assert {name: tensor.device.type for name, tensor in model.initial_adapter.items()} == {"x.lora_A.weight": "cpu"}


def test_corda_multiplies_in_float32_whatever_a_card_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's older setting, or by its newer one, beside which the older must not be asked."""
    seen = set()
    own, products = torch.linalg.inv, torch.backends.cuda.matmul

    def inverse(matrix: Tensor) -> Tensor:
        seen.add(products.fp32_precision)
        return own(matrix)

    monkeypatch.setattr(torch.linalg, "inv", inverse)
    torch.set_float32_matmul_precision("high")
    try:
        started("corda", batches=1)
        assert torch.get_float32_matmul_precision() == "high"
        torch.set_float32_matmul_precision("highest")
        products.fp32_precision = "tf32"
        started("corda", batches=1)
        assert products.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
        products.fp32_precision = "none"
    assert seen == {"ieee"}


def test_lora_ga_keeps_no_more_than_gradient_checkpointing_does() -> None:
    """Of the layers' inputs; and what it finds is the same."""
    found = []
    for checkpointed in (False, True):
        rows = Rows(GPT2, 2, rows=64)
        model = METHODS["lora_ga"](rank=4).apply(GPT2.build(), GPT2.context())
        if checkpointed:
            model.base_model.model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        with LiveBytes(model_tensors(model)) as watcher:
            METHODS["lora_ga"](rank=4).take_rows(model, rows)
        found.append((watcher.peak_bytes, {name: moved(layer).detach() for name, layer in layers(model)}))
    (whole, plain), (less, other) = found
    assert less < 0.7 * whole
    assert all(torch.allclose(plain[name], other[name], atol=1e-4) for name in plain)


class Stops(peftlab.Callback):
    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", STARTS)
def test_a_run_leaves_a_lora_that_fits_the_base_and_goes_on_as_one(
    name: str, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(tmp_path, tiny_bert, type=name, rows=12).model_dump(mode="json")
    training = settings["training"] | {"checkpoint_every_steps": 1}
    own = peftlab.Recipe.from_dict(settings | {"evaluation": {"every": 2}, "training": training})
    done = peftlab.run_recipe(own, output_dir=tmp_path / "run", device="cpu")
    assert done.record.status == "success", done.record.error
    assert done.record.guards["base_unchanged"].status == "passed"
    config = json.loads((done.folder / "adapter/adapter_config.json").read_text())
    assert config["r"] == 8

    halted = peftlab.run_recipe(own, output_dir=tmp_path / "stopped", device="cpu", callbacks=[Stops()])
    assert halted.record.status == "cancelled"
    with monkeypatch.context() as patch:  # on another card, or beside another process, the rows would lead elsewhere
        patch.setattr(METHODS[name], "factors", lambda *_: pytest.fail("the rows are looked at again"))
        again = peftlab.run_recipe(own, output_dir=tmp_path / "stopped", device="cpu", resume=True)
    assert (again.record.status, again.record.resumed) == ("success", 1), again.record.error
    one, other = (load_file(each.folder / "adapter/adapter_model.safetensors") for each in (done, again))
    assert all(torch.equal(one[key], other[key]) for key in one), "resumed bit for bit"

    further = peftlab.Recipe.from_dict(settings | {"continues": {"run": str(done.folder), "replay": 0}})
    second = peftlab.run_recipe(further, output_dir=tmp_path / "second", device="cpu")
    assert second.record.status == "success", second.record.error
    assert (second.record.recipe["method"]["type"], second.record.recipe["method"]["rank"]) == ("lora", 8)
