"""Several processes give what one gives: the same losses, the same scores; and one that is lost ends all."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

import peftlab
from peftlab.core.record import read_record
from peftlab.estimate.data import look_at_data
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import find_target
from peftlab.preparation.check import check_recipe
from peftlab.recipe.values import document_of
from peftlab.testing.tiny_bases import NEUTRAL
from tests.conftest import Command
from tests.forks import Fork
from tests.patience import PATIENCE
from tests.ports import free_port

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"type": "lora", "rank": 4, "alpha": 8},
    "full": {"type": "full"},
    "adalora": {"type": "adalora", "target_rank": 4, "initial_rank": 6},
    "prefix": {"type": "prefix_tuning", "num_virtual_tokens": 4},
}
# Each method once, and both kinds of models; a method's gradients are added up alike on each of them.
CASES = ["bert-lora", "bert-adalora", "llama-lora", "llama-full", "llama-prefix"]
ALL = [*CASES, "bert-embedding", "clip-embedding", "llama-nf4", "llama-reinforcement"]
SHARDED = ["bert-lora", "llama-lora", "llama-full", "llama-nf4"]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny_llama(made_once: MadeOnce, tiny_gpt2: Path) -> Path:
    """A Llama with random weights of 2 layers."""

    def write(folder: Path) -> None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = transformers.LlamaConfig(
            vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, **sizes
        )
        transformers.LlamaForCausalLM(config).save_pretrained(folder)

    return made_once("tiny-llama", write)


@pytest.fixture(scope="module")
def recipes(
    tiny_bert: Path, tiny_llama: Path, tiny_clip: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The recipe of each case."""
    models = {"bert": tiny_bert, "llama": tiny_llama}
    found = {case: recipe(models[case.partition("-")[0]], reviews, METHODS[case.partition("-")[2]]) for case in CASES}
    texts = [" ".join(words) for words in itertools.islice(itertools.permutations(NEUTRAL, 2), 60)]
    pairs = [{"query": text, "document": f"{text} film"} for text in texts]
    table = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    table.write_text("\n".join(map(json.dumps, pairs)))
    embedding = recipe(tiny_bert, reviews, METHODS["full"], gradient_accumulation_steps=1)
    embedding["task"] = {"type": "text_embedding", "max_length": 16}
    embedding["data"] = {"source": str(table), "validation_fraction": 0.2}
    found["bert-embedding"] = embedding
    pictures = recipe(tiny_clip, reviews, METHODS["full"], gradient_accumulation_steps=1)
    pictures["task"] = {"type": "image_text_embedding", "max_length": 16}
    pictures["data"] = {"source": str(write_pictures(table.parent, texts)), "validation_fraction": 0.2}
    found["clip-embedding"] = pictures
    quantized = recipe(tiny_llama, reviews, METHODS["lora"])
    quantized["model"] = {**quantized["model"], "quantization": "nf4"}
    found["llama-nf4"] = quantized
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [{"prompt": f"good film {at}", "response": "good"} for at in range(60)]
    prompts.write_text("\n".join(map(json.dumps, rows)))
    rewarded = recipe(tiny_llama, prompts, METHODS["lora"], max_steps=5)
    rewarded["task"] = {
        "type": "reinforcement",
        "max_length": 24,
        "max_response_tokens": 3,
        "group_size": 4,
        "kl": 0.05,
        "steps_per_roll_out": 2,
        "rewards": [{"type": "regular_expression", "pattern": "[go]"}],
    }
    found["llama-reinforcement"] = rewarded
    return found


def write_pictures(folder: Path, texts: list[str]) -> Path:
    """A table of pictures, one for each text."""
    rows = []
    for at, text in enumerate(texts):
        pixels = np.random.default_rng(at).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{at}.png")
        rows.append({"image": f"{at}.png", "text": text})
    path = folder / "pictures.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def recipe(model: Path, reviews: Path, method: dict[str, Any], **training: Any) -> dict[str, Any]:
    """Fourteen steps of two batches of 9 texts, which part evenly between neither two processes nor three."""
    return {
        "name": "world",
        "model": {"path": str(model), "dropout": 0.0},
        "task": {"type": "text_classification", "text": "text", "label": "label", "max_length": 32},
        "data": {"source": str(reviews), "validation_fraction": 0.2},
        "method": method,
        "measure": False,
        "training": {
            "max_steps": 14,
            "batch_size": 9,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3,
            "log_every_steps": 1,
            **training,
        },
    }


def run_together(count: int, runs: list[dict[str, Any]], folder: Path) -> list[tuple[int, str]]:
    """Run recipes in so many processes, as torchrun would start them; how each has ended, and what it said."""
    (folder / "runs.json").write_text(json.dumps(runs))
    port, started = free_port(), []
    for rank in range(count):
        own = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in own.items()}}
        with (folder / f"{rank}.log").open("wb") as log:
            words, main = [folder / "runs.json"], "tests.training.world_worker:main"
            started.append(Fork(words, folder=folder, stdout=log, stderr=log, environment=variables, main=main))
    return [(process.wait(PATIENCE), (folder / f"{rank}.log").read_text()) for rank, process in enumerate(started)]


def losses(folder: Path) -> list[float]:
    return logged(folder, "loss")


def logged(folder: Path, figure: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[figure] for line in lines if figure in line]


@pytest.fixture(scope="module")
def alone(recipes: dict[str, dict[str, Any]], made_once: MadeOnce) -> Path:
    """A run of one process for each case."""

    def write(folder: Path) -> None:
        for name, values in recipes.items():
            peftlab.run_recipe(peftlab.Recipe.from_dict(values), output_dir=folder / name, device="cpu")

    return made_once("alone", write)


@pytest.fixture(scope="module")
def together(recipes: dict[str, dict[str, Any]], made_once: MadeOnce) -> Path:
    """The same runs in two processes; the last one loses its second process after step 9."""

    def write(folder: Path) -> None:
        runs = [{"recipe": values, "output_dir": str(folder / name)} for name, values in recipes.items()]
        runs += [{"recipe": sharded(recipes[name]), "output_dir": str(folder / f"{name}-sharded")} for name in SHARDED]
        runs.append({"recipe": often_kept(recipes), "output_dir": str(folder / "killed"), "die": [1, 9]})
        (first, said), (second, _) = run_together(2, runs, folder)
        assert first == 0, said
        assert second == -9

    return made_once("together", write)


def sharded(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe whose base is in parts; its last batch has a text for the first process alone."""
    return {**values, "measure": True, "training": {**values["training"], "sharding": "fsdp"}}


def often_kept(recipes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A recipe with a checkpoint every four steps."""
    values = recipes["bert-lora"]
    return {**values, "training": {**values["training"], "checkpoint_every_steps": 4}}


@pytest.mark.parametrize("method", ALL)
def test_two_processes_give_what_one_gives(method: str, alone: Path, together: Path) -> None:
    one, two = read_record(alone / method), read_record(together / method)
    assert two.status == "success", two.error
    # A policy's loss is a sum of gains and losses that cancel out: it is near zero, what is rounded is not.
    # The whole of a model at a high rate carries what is rounded from step to step: ten steps later it is 2.5e-6.
    rel = 1e-5 if method.endswith("embedding") else 1e-6
    assert losses(together / method) == pytest.approx(losses(alone / method), rel=rel, abs=1e-7)
    norms = [logged(folder / method, "gradient_norm") for folder in (together, alone)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5, abs=1e-6)
    assert logged(together / method, "reward") == logged(alone / method, "reward")  # both have drawn the same texts
    if method.endswith("embedding"):
        assert losses(alone / method)[-2] < 0.97 * math.log(9)  # of a whole batch: its vectors are not all alike
    assert two.scores == one.scores
    assert two.environment["processes"] == 2
    assert two.environment["backend"] == "gloo"
    assert two.environment["own_draws"] is None
    assert {name for name, guard in two.guards.items() if guard.status == "passed"} == {
        name for name, guard in one.guards.items() if guard.status == "passed"
    }


@pytest.mark.parametrize("case", SHARDED)
def test_a_base_in_parts_gives_what_a_whole_one_gives(case: str, alone: Path, together: Path) -> None:
    one, two = read_record(alone / case), read_record(together / f"{case}-sharded")
    assert two.status == "success", two.error
    assert losses(together / f"{case}-sharded") == pytest.approx(losses(alone / case), rel=1e-6)
    assert two.scores == one.scores
    assert two.environment["sharding"] == "fsdp"
    passed = {name for name, guard in two.guards.items() if guard.status == "passed"}
    assert passed == {name for name, guard in one.guards.items() if guard.status == "passed"} - {"adapter_has_effect"}
    whole = load_file(next((alone / case).glob("*/*model.safetensors")))
    parted = load_file(next((together / f"{case}-sharded").glob("*/*model.safetensors")))
    assert whole.keys() == parted.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(parted[name], tensor, rtol=1e-4, atol=1e-5)


def test_the_memory_of_a_process_is_estimated(recipes: dict[str, dict[str, Any]], together: Path) -> None:
    values = sharded(recipes["bert-lora"])
    checked, batch = look_at_data(check_recipe(peftlab.Recipe.from_dict(values), document_of(values), offline=True), 2)
    found = estimate_recipe(checked, find_target("cpu").for_processes(2), batch=batch, advise=False)
    measured = read_record(together / "bert-lora-sharded").memory
    assert measured is not None
    assert found.memory.memory.peak_bytes == pytest.approx(measured.peak_bytes, rel=0.03)
    whole = estimate_recipe(checked, find_target("cpu"), batch=batch, advise=False).memory.memory
    assert measured.parameters_bytes < 0.6 * whole.parameters_bytes


def test_a_lost_process_ends_the_run_and_another_number_goes_on(
    alone: Path, together: Path, recipes: dict[str, dict[str, Any]], tmp_path: Path, command: Command
) -> None:
    killed, path = tmp_path / "killed", tmp_path / "often_kept.yaml"
    shutil.copytree(together / "killed", killed)
    record = read_record(killed)
    assert record.status == "failed"
    assert "process 1 is gone" in str(record.error)
    assert "--resume" in str(record.error)
    path.write_text(json.dumps(often_kept(recipes)))
    options = ("--output-dir", killed, "--resume", "--device", "cpu", "--process-timeout", PATIENCE)
    done = command("run", path, *options, "--processes", 3, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "the run began in 2 processes and goes on in 3" in done.stderr
    record = read_record(killed)
    assert record.environment["processes"] == 3
    assert record.resumed == 1
    assert losses(killed) == pytest.approx(losses(alone / "bert-lora"), rel=1e-6)
    assert record.scores == read_record(alone / "bert-lora").scores


def test_what_is_wrong_is_said_once(recipes: dict[str, dict[str, Any]], tmp_path: Path, command: Command) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps({**recipes["bert-lora"], "method": {"type": "lorra"}}))
    done = command("run", tmp_path / "recipe.yaml", "--output-dir", tmp_path / "out", "--processes", 2)
    assert done.returncode == 2
    assert done.stderr.count("Error") == 1
    assert "lorra" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_said_once(
    recipes: dict[str, dict[str, Any]], tmp_path: Path, command: Command
) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipes["bert-lora"]))
    options = ("--output-dir", tmp_path / "out", "--processes", 2, "--device", "cuda")
    done = command("run", tmp_path / "recipe.yaml", *options)
    assert done.returncode == 2
    assert done.stderr.count("Error") == 1
    assert "there is no CUDA device here" in done.stderr
