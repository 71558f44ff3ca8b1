"""EVA: its directions are the principal components of what layers read, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_rows import Rows, recipe

import peftlab
from peftlab.core.errors import DataError
from peftlab.core.method import METHODS
from peftlab.methods.lora import Lora
from peftlab.testing.tiny_models import KINDS
from peftlab.training.hooks import HookList
from tests.conftest import sentences

pytestmark = pytest.mark.slow
BERT = next(kind for kind in KINDS if kind.name == "bert")


def wrapped(rank: int = 4) -> nn.Module:
    method = METHODS["eva"](rank=rank)
    return method.apply(BERT.build(), BERT.context())


def read_by_layers(model: nn.Module, rows: Rows) -> dict[str, np.ndarray]:
    """What each layer reads of all batches, without padding."""
    found: dict[str, list[Tensor]] = {}
    layers = {name: part for name, part in model.named_modules() if hasattr(part, "lora_A")}
    handles = [
        part.register_forward_pre_hook(lambda _part, inputs, name=name: found.setdefault(name, []).append(inputs[0]))
        for name, part in layers.items()
    ]
    masks = [batch["attention_mask"].bool() for batch in rows.read(model, 0)]
    for handle in handles:
        handle.remove()
    return {
        name: torch.cat([states[mask] for states, mask in zip(own, masks, strict=True)]).double().numpy()
        for name, own in found.items()
        if own[0].shape[:2] == (rows.rows, 8)
    }


def test_the_directions_are_principal_components() -> None:
    model, rank = wrapped(), 4
    with torch.no_grad():
        before = {name: value.clone() for name, value in model.named_parameters()}
    rows = Rows(BERT, 6)
    METHODS["eva"](rank=rank).take_rows(model, rows)
    read = read_by_layers(model, rows)
    assert len(read) >= 12
    for name, states in read.items():
        exact = np.linalg.svd(states - states.mean(axis=0), full_matrices=False)[2][:rank]
        own = model.get_submodule(name).lora_A["default"].weight.detach().double().numpy()
        assert own @ own.T == pytest.approx(np.eye(rank), abs=1e-4)
        variance = ((states - states.mean(axis=0)) @ own.T).var(axis=0).sum()
        best = ((states - states.mean(axis=0)) @ exact.T).var(axis=0).sum()
        assert variance > 0.95 * best, name  # batch by batch, and by random projections: nearly the best directions
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed
    assert all(".lora_A." in name for name in changed)


def test_a_batch_alone_gives_the_exact_components() -> None:
    model, rows = wrapped(rank=20), Rows(BERT, 1, rows=32)
    METHODS["eva"](rank=20).take_rows(model, rows)
    for name, states in read_by_layers(model, rows).items():
        exact = np.linalg.svd(states - states.mean(axis=0), full_matrices=False)[2][:20]
        own = model.get_submodule(name).lora_A["default"].weight.detach().double().numpy()
        assert np.abs(np.sum(own[:6] * exact[:6], axis=1)) == pytest.approx(np.ones(6), abs=1e-3)


def test_no_other_card_of_a_machine_is_asked_for_its_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch asks all of them where it is told of none, and warns of it."""
    own = torch.random.fork_rng

    def forked(devices: list[int] | None = None, enabled: bool = True, **options: Any) -> Any:
        assert devices is not None or not enabled
        return own(devices, enabled, **options)

    monkeypatch.setattr(torch.random, "fork_rng", forked)
    model, before = wrapped(), torch.get_rng_state()
    METHODS["eva"](rank=4).take_rows(model, Rows(BERT, 2))
    assert torch.equal(before, torch.get_rng_state())


def test_fewer_tokens_than_ranks_are_refused() -> None:
    with pytest.raises(DataError, match=r"reads \d+ states of these training rows, and 30 directions"):
        METHODS["eva"](rank=30).take_rows(wrapped(rank=30), Rows(BERT, 1))


def test_regularizers_begin_where_the_rows_have_led(tiny_bert: Path, tmp_path: Path) -> None:
    """What is pulled back to the start is not pulled to the matrices that were drawn before; in the run's precision."""
    seen: dict[str, Tensor] = {}
    real = HookList.begin.__func__

    def look(cls: type[HookList], hooks: list, model: nn.Module, *arguments: object) -> HookList:
        found = real(cls, hooks, model, *arguments)
        seen.update({name: value.detach().clone() for name, value in model.named_parameters() if ".lora_A." in name})
        seen.update({f"start/{name}": hooks[1].start[name] for name in seen if not name.startswith("start/")})
        return found

    settings = recipe(tmp_path, tiny_bert, type="eva", rows=12).model_dump(mode="json")
    settings["model"] |= {"dtype": "bfloat16"}  # as a frozen base has it on a card, under a head in float32
    settings["training"] |= {"regularizers": [{"type": "l2_sp"}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HookList, "begin", classmethod(look))
        done = peftlab.run_recipe(
            peftlab.Recipe.from_dict(settings), output_dir=tmp_path / "run", device="cpu", offline=True
        )
    assert done.record.status == "success", done.record.error
    starts = [name for name in seen if name.startswith("start/")]
    assert starts
    for name in starts:
        value = seen[name.removeprefix("start/")]
        assert torch.equal(seen[name], value)
        assert torch.dist(value @ value.T, torch.eye(4)) < 1e-3


def test_a_run_begins_with_them_leaves_a_lora_and_goes_on_as_one(tiny_bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    first = peftlab.run_recipe(
        recipe(tmp_path, tiny_bert, type="eva", rows=12), output_dir=tmp_path / "run", device="cpu", offline=True
    )
    assert first.record.status == "success", first.record.error
    plain = peftlab.run_recipe(
        recipe(tmp_path, tiny_bert, type="eva", rows=12).model_copy(update={"method": Lora(rank=4)}),
        output_dir=tmp_path / "plain",
        device="cpu",
        offline=True,
    )
    one, other = (load_file(folder / "adapter/adapter_model.safetensors") for folder in (first.folder, plain.folder))
    assert one.keys() == other.keys()
    name = next(name for name in one if "lora_A" in name)
    overlap = one[name].double() @ one[name].double().T
    assert torch.dist(overlap, torch.eye(4)) < torch.dist(other[name].double() @ other[name].double().T, torch.eye(4))
    again = recipe(tmp_path, tiny_bert, type="eva", rows=12).model_dump(mode="json") | {
        "continues": {"run": str(first.folder), "replay": 0}
    }
    lines = "".join(f"{text},{label}\n" for text, label in sentences(120, seed=6)[60:])
    (tmp_path / "more.csv").write_text(f"text,label\n{lines}")
    again["data"] = {"source": str(tmp_path / "more.csv")}
    second = peftlab.run_recipe(
        peftlab.Recipe.from_dict(again), output_dir=tmp_path / "second", device="cpu", offline=True
    )
    assert second.record.status == "success", second.record.error
    assert second.record.recipe["method"]["type"] == "lora"
