"""LoftQ: each update begins with the best approximation of what its matrix has lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from training_rows import recipe

import peftlab
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS
from peftlab.models.base_model import BaseModel, load_base_model
from peftlab.models.model_config import ModelConfig
from peftlab.testing.tiny_models import KINDS, Kind

pytestmark = pytest.mark.slow
BASES = [(kind, quantization) for kind, quantization in [("bert", "nf4"), ("llama", "nf4"), ("gpt2", "fp4")]]


def load(kind: Kind, folder: Path, quantization: str | None) -> BaseModel:
    torch.manual_seed(0)
    config, head = ModelConfig(path=str(folder), quantization=quantization), kind.task.head(("a", "b", "c"))
    return load_base_model(str(folder), config, head, dtype=torch.float32, dropout=0.0, pad_token_id=0, offline=True)


@pytest.mark.parametrize(("name", "quantization"), BASES)
def test_the_update_is_the_best_one_of_its_rank(name: str, quantization: str, tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    kind.build().base_model.save_pretrained(tmp_path)
    base, method = load(kind, tmp_path, quantization), METHODS["loftq"](rank=4, alpha=12)
    model = method.apply(base.model, replace(kind.context(), head_modules=base.head_modules))
    original = load(kind, tmp_path, None).model
    method.take_original(model, original)
    seen = 0
    for own, layer in model.named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        full: Any = original.get_submodule(own.removeprefix("base_model.model."))
        weight = full.weight.t() if type(full).__name__ == "Conv1D" else full.weight
        packed = layer.get_base_layer().weight
        lost = weight - dequantize_4bit(packed.data, packed.quant_state)
        update = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        best = torch.linalg.svdvals(lost)[4:].square().sum().sqrt()
        assert torch.linalg.matrix_norm(lost - update) <= 1.02 * best, own
        assert best < 0.99 * torch.linalg.matrix_norm(lost), own
        seen += 1
    assert seen >= 8


def test_what_has_lost_nothing_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="int8 loses next to nothing"):
        METHODS["loftq"]().check_quantization("int8")


def test_a_base_in_full_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="this base is in full"):
        peftlab.run_recipe(recipe(tmp_path, tiny_bert, type="loftq"), output_dir=tmp_path / "run", device="cpu")


def test_a_run_begins_with_it_and_leaves_a_lora(tiny_bert: Path, tmp_path: Path) -> None:
    settings = recipe(tmp_path, tiny_bert, type="loftq").model_dump(mode="json")
    settings["model"] |= {"quantization": "nf4"}
    done = peftlab.run_recipe(peftlab.Recipe.from_dict(settings), output_dir=tmp_path / "run", device="cpu")
    assert done.record.status == "success", done.record.error
    assert json.loads((done.folder / "adapter/adapter_config.json").read_text())["r"] == 4
    plain = {**settings, "method": {"type": "lora", "rank": 4}}
    other = peftlab.run_recipe(peftlab.Recipe.from_dict(plain), output_dir=tmp_path / "plain", device="cpu")
    assert done.record.initial_adapter_sha256 != other.record.initial_adapter_sha256

    further = settings | {"continues": {"run": str(done.folder), "replay": 0}}
    second = peftlab.run_recipe(peftlab.Recipe.from_dict(further), output_dir=tmp_path / "second", device="cpu")
    assert second.record.status == "success", second.record.error
    assert second.record.recipe["method"]["type"] == "lora"
