"""Several workers compute by one model at once where it is fit for that, and one after the other where it is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from test_service import TEXTS, same, told_by_predict
from torch import nn
from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

Run = Callable[..., Path]
ALONE = {"workers": 2, "max_batch": 1, "max_wait_seconds": 0.0}


@pytest.fixture(scope="module")
def longrope_llama(tiny_gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose rotary frequencies are others for texts of more than 8 tokens."""
    folder = tmp_path_factory.mktemp("models") / "longrope"
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    rope = {
        "rope_type": "longrope", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 8,
        "short_factor": [1.0] * 4, "long_factor": [30.0] * 4,
    }  # fmt: skip
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=64,
        vocab_size=len(tokenizer), rope_parameters=rope, initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("base", ["bert", "gpt2"])
@pytest.mark.parametrize("method", ["{type: lora, rank: 4}", "{type: houlsby_adapter}"])
def test_two_batches_at_once_get_their_own_answers(base: str, method: str, start, tiny_run: Run) -> None:
    folder = tiny_run(method, base=base)
    expected = told_by_predict(folder, TEXTS[:12])
    client = start({"only": folder}, batching=ALONE)
    # Neither batch goes on from here before the other is here too.
    both_here = threading.Barrier(2)

    def meet(*_: object) -> None:
        both_here.wait(PATIENCE)

    client.service.host.models["only"].tuned.model.register_forward_hook(meet)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(client.predict, [[text] for text in TEXTS[:12]]))
    for (status, body), wanted in zip(answers, expected, strict=True):
        assert status == 200, body
        same(body["predictions"][0], wanted)


@pytest.mark.parametrize("kind", ["nf4", "longrope"])
def test_one_batch_after_the_other_where_a_forward_changes_the_model(
    kind: str, start, tiny_run: Run, longrope_llama: Path
) -> None:
    runs = {
        name: tiny_run(seed=seed, quantization="nf4") if kind == "nf4" else tiny_run(seed=seed, base=longrope_llama)
        for seed, name in enumerate("ab")
    }
    # By itself each: in a batch, the longest text decides on all texts' frequencies.
    expected = {name: [told_by_predict(folder, [text])[0] for text in TEXTS[:8]] for name, folder in runs.items()}
    client = start(runs, batching=ALONE)
    model = client.service.host.models["a"].tuned.model
    inside: list[nn.Module] = []
    most = 0

    def enter(module: nn.Module, _inputs: object) -> None:
        nonlocal most
        inside.append(module)
        most = max(most, len(inside))
        time.sleep(0.02)  # the other worker has time to come in too

    def leave(*_: object) -> None:
        inside.pop()

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave)
    with ThreadPoolExecutor(4) as pool:
        asked = [(text, name) for text in range(8) for name in runs]
        answers = list(pool.map(lambda ask: client.predict([TEXTS[ask[0]]], ask[1]), asked))
    for (text, name), (status, body) in zip(asked, answers, strict=True):
        assert status == 200, body
        same(body["predictions"][0], expected[name][text])
    assert most == 1


def test_adapters_that_ride_alone_are_not_switched_while_another_one_computes(start, tiny_run: Run) -> None:
    """A text of several windows is a batch of its own adapter, in the model that it shares with the others."""
    task = "{type: text_classification, max_length: 12, windows: {stride: 3, most: 3}}"
    runs = {name: tiny_run(seed=seed, task=task) for seed, name in enumerate("ab")}
    texts = [f"{text} {text}" for text in TEXTS[:8]]
    expected = {name: told_by_predict(folder, texts) for name, folder in runs.items()}
    client = start(runs, batching=ALONE)
    models = {id(hosted.tuned.model): hosted.tuned.model for hosted in client.service.host.models.values()}
    (model,) = models.values()
    model.register_forward_pre_hook(lambda *_: time.sleep(0.02))  # the other worker has time to switch
    with ThreadPoolExecutor(4) as pool:
        asked = [(text, name) for text in range(8) for name in runs]
        answers = list(pool.map(lambda ask: client.predict([texts[ask[0]]], ask[1]), asked))
    for (text, name), (status, body) in zip(asked, answers, strict=True):
        assert status == 200, body
        same(body["predictions"][0], expected[name][text])


def test_an_adapter_that_has_gone_leaves_no_tensors_behind(start, tiny_run: Run) -> None:
    runs = {name: tiny_run(seed=seed) for seed, name in enumerate("ab")}
    client = start(runs, adapter_folders=(runs["b"].parent,))
    host = client.service.host
    model = host.models["a"].tuned.model
    for _ in range(2):
        assert client.request("DELETE", "/v1/adapters/b")[0] == 204
        live = {tensor.data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
        assert {tensor.data_ptr() for tensor in host._pool._tensors.values()} <= live
        assert client.request("POST", "/v1/adapters", {"name": "b", "folder": str(runs["b"])})[0] == 201
    first = told_by_predict(runs["b"], TEXTS[:2])
    for answer, wanted in zip(client.predict(TEXTS[:2], "b")[1]["predictions"], first, strict=True):
        same(answer, wanted)
