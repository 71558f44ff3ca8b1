"""An offloaded base trains to the same adapter, is there only while it computes, and leaves no file behind."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import peftlab
from peftlab.core.config import Document
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.record import RunRecord
from peftlab.core.tensors import model_tensors
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import Target
from peftlab.inference.load_tuned import load_tuned
from peftlab.preparation.check import check_model
from peftlab.recipe.schema import build_recipe
from peftlab.run.run import run_recipe
from peftlab.training import offload
from peftlab.training.offload import Placement

pytestmark = pytest.mark.slow

TEXTS = {"type": "text_classification", "max_length": 24}
LANGUAGE = {"type": "causal_lm", "max_length": 24}


def recipe_of(model: Path, data: Path, method: dict, task: dict, **settings):
    values = {
        "model": {"path": str(model)},
        "task": task,
        "data": {"source": str(data), "validation_fraction": 0.1, "max_train_examples": 64},
        "method": method,
        "training": {"max_steps": 6, "batch_size": 8, "gradient_checkpointing": True, "log_every_steps": 1},
    }
    for key, value in settings.items():
        section, _, name = key.partition("__")
        values[section][name] = value
    document = Document(source="test", values=values)
    return build_recipe(document, default_name="tiny"), document


def run(folder: Path, *arguments, **settings) -> tuple[RunRecord, list[float]]:
    recipe, document = recipe_of(*arguments, **settings)
    record = run_recipe(recipe, document, output_dir=folder, offline=True).record
    assert record.status == "success", (record.error, (folder / "traceback.txt").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return record, [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize(
    ("model", "method", "task"),
    [
        ("tiny_bert", {"type": "lora"}, TEXTS),
        ("tiny_gpt2", {"type": "lora"}, LANGUAGE),
        ("tiny_gpt2", {"type": "houlsby_adapter"}, TEXTS),
        ("tiny_bert", {"type": "prompt_tuning"}, TEXTS),
    ],
    ids=str,
)
def test_disk_changes_nothing_but_the_memory(
    model: str, method: dict, task: dict, reviews: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(model)
    plain, expected = run(tmp_path / "plain", base, reviews, method, task)
    lean, losses = run(tmp_path / "lean", base, reviews, method, task, model__offload="disk")
    assert losses == pytest.approx(expected, rel=1e-5)
    assert lean.scores["validation"] == pytest.approx(plain.scores["validation"], rel=1e-4)
    assert lean.guards["base_unchanged"].status == "passed"
    assert lean.guards["base_unchanged"].detail == plain.guards["base_unchanged"].detail
    assert lean.memory.parameters_bytes < 0.6 * plain.memory.parameters_bytes
    assert lean.memory.peak_bytes < plain.memory.peak_bytes
    assert not [path for path in (tmp_path / "lean").iterdir() if path.name.startswith(".offload")]
    recipe, document = recipe_of(base, reviews, method, task, model__offload="disk")
    checked = check_model(recipe, document, offline=True)
    estimated = estimate_recipe(checked, Target("cpu", None), advise=False)
    assert estimated.categories["parameters"] == lean.memory.parameters_bytes
    told: list[str] = []
    load_tuned(tmp_path / "plain", device=torch.device("cpu"), report=told.append)
    assert not told
    load_tuned(tmp_path / "lean", device=torch.device("cpu"), report=told.append)
    assert told == ["model.offload: disk counts in training alone: to answer, the whole base is held in memory"]


def test_estimates_know_of_the_layer_that_comes_ahead(tiny_gpt2: Path, reviews: Path) -> None:
    peaks = {}
    for place in ("cpu", "disk"):
        recipe, document = recipe_of(tiny_gpt2, reviews, {"type": "lora"}, LANGUAGE, model__offload=place)
        checked = check_model(recipe, document, offline=True)
        peaks[place] = estimate_recipe(checked, Target("cuda", 2**33), advise=False).memory.memory.peak_bytes
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2)
    layers = offload.frozen_layers(model.requires_grad_(False)).values()
    largest = max(sum(tensor.numel() for tensor in layer.parameters(recurse=False)) for layer in layers)
    assert 2 * largest <= peaks["cpu"] - peaks["disk"] <= 2 * largest + 512, "in bfloat16, in pieces of 512 bytes"


def test_matrices_are_there_only_while_they_compute(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4), torch.nn.LayerNorm(4))
    model[:2].requires_grad_(False)
    inputs, before = torch.ones(2, 4), [tensor.clone() for tensor in model.parameters()]
    expected = model(inputs)
    with Placement("disk", device=torch.device("cpu"), folder=tmp_path) as placement:
        placed = placement.place(model)
        seen = []
        placed[1].register_forward_pre_hook(lambda *_: seen.append([tensor.is_meta for tensor in placed.parameters()]))
        assert torch.equal(placed(inputs), expected)
        assert sum(tensor.numel() for tensor in model_tensors(placed) if not tensor.is_meta) == 8  # the norm's
        assert seen[0][:2] == [True, True]
        assert all(
            torch.equal(tensor, before[place]) for place, (_, tensor) in enumerate(offload.frozen_tensors(placed))
        )
        assert any(tmp_path.iterdir())
    assert not any(tmp_path.iterdir())


def test_what_lay_in_the_cpus_memory_goes_with_its_model(tmp_path: Path) -> None:
    """A run loads its base anew to check what it has saved: two of them may be more than the computer has."""
    with Placement("cpu", device=torch.device("meta"), folder=tmp_path) as placement:  # there is no card here
        placed = placement.place(torch.nn.Sequential(torch.nn.Linear(4, 8).requires_grad_(False)))
        store = weakref.ref(vars(placed[0])[offload.STORE][0])
        assert store().read("0")["weight"].shape == (8, 4)
        del placed
        gc.collect()
        assert store() is None


@pytest.mark.parametrize(
    ("method", "settings", "error", "expected"),
    [
        ({"type": "lora"}, {"training__gradient_checkpointing": False}, ConfigError, "needs gradient checkpointing"),
        ({"type": "full"}, {}, UnsupportedError, "must stay on the device"),
        ({"type": "bitfit"}, {}, UnsupportedError, "biases"),
        ({"type": "lora", "dora": True}, {}, UnsupportedError, "DoRA"),
        ({"type": "prefix_tuning"}, {}, UnsupportedError, "gradient checkpointing"),
        ({"type": "lora"}, {"model__offload": "cpu"}, UnsupportedError, "no GPU here"),
        ({"type": "lora"}, {"model__quantization": "nf4"}, ConfigError, "do not go together"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(
    method: dict, settings: dict, error: type[Exception], expected: str, tiny_bert: Path, reviews: Path, tmp_path: Path
) -> None:
    if torch.cuda.is_available() and settings.get("model__offload") == "cpu":
        pytest.skip("there is a GPU here")
    with pytest.raises(error, match=expected):
        run(tmp_path / "run", tiny_bert, reviews, method, TEXTS, **{"model__offload": "disk", **settings})
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
def test_the_cpus_memory_spares_the_gpus(tiny_gpt2: Path, reviews: Path, tmp_path: Path) -> None:
    method = {"type": "lora"}
    plain, expected = run(tmp_path / "plain", tiny_gpt2, reviews, method, LANGUAGE, model__dtype="float32")
    lean, losses = run(
        tmp_path / "lean", tiny_gpt2, reviews, method, LANGUAGE, model__dtype="float32", model__offload="cpu"
    )
    assert losses == pytest.approx(expected, rel=1e-3)
    assert lean.memory.parameters_bytes < plain.memory.parameters_bytes


@pytest.mark.parametrize("method", ["prefix_tuning", "prompt_tuning", "p_tuning"])
def test_the_ids_of_virtual_tokens_are_where_the_model_is(method: str, tmp_path: Path) -> None:
    """peft copies them from the host in every pass else."""
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    model = peftlab.wrap(transformers.BertForSequenceClassification(config), method)
    place = torch.device("meta")  # any other than the host
    placed: Any = Placement(None, device=place, folder=tmp_path).place(model)
    assert placed.prompt_tokens
    assert {ids.device for ids in placed.prompt_tokens.values()} == {place}
