"""Every method on a quantised base: it learns, leaves the base alone and can be loaded again, or says why it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.merge import merge
from peftlab.artifact.save import save_artifact
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method
from peftlab.core.tensors import count_weights, quantization_state
from peftlab.models.base_model import BaseModel, load_base_model
from peftlab.models.model_config import ModelConfig
from peftlab.models.quantization import dequantize, quantized_layers
from peftlab.testing.method_training import logits_of, optimizer_of, step
from peftlab.testing.tiny_models import KINDS, Kind, NoTokenizer, toy_batch
from peftlab.training.guards import BaseGuard, GradientGuard, check_trainable_parameters
from tests.small_methods import PEFT_ADAPTERS, small_method

pytestmark = pytest.mark.slow

ON_QUANTIZED = {"hira", "randlora", "road"}
REFUSED = {
    **dict.fromkeys(("full", "bitfit"), "gradient"),
    **dict.fromkeys(set(PEFT_ADAPTERS) - ON_QUANTIZED, "needs the base's matrices"),
    **dict.fromkeys(("corda", "lora_ga"), "cannot be changed"),
}
STEPS = 12
BERT, GPT2, LLAMA = (next(kind for kind in KINDS if kind.name == name) for name in ("bert", "gpt2", "llama"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The kinds' bases on disk, without heads."""
    folders = {}
    for kind in (BERT, GPT2, LLAMA):
        folders[kind.name] = tmp_path_factory.mktemp(kind.name)
        kind.build().base_model.save_pretrained(folders[kind.name])
    return folders


def load(kind: Kind, folder: Path, quantization: str | None) -> BaseModel:
    torch.manual_seed(0)
    config = ModelConfig(path=str(folder), quantization=quantization)
    head = kind.task.head(("a", "b", "c"))
    return load_base_model(str(folder), config, head, dtype=torch.float32, dropout=0.0, pad_token_id=0, offline=True)


BASES = [(BERT, "nf4"), (LLAMA, "nf4"), (GPT2, "fp4"), (BERT, "int8"), (GPT2, "int8")]
CASES = [
    pytest.param(name, kind, quantization, id=f"{name}-{kind.name}-{quantization}")
    for name in METHODS
    for kind, quantization in (BASES if name not in PEFT_ADAPTERS else [(BERT, "nf4"), (BERT, "int8")])
]


@pytest.mark.parametrize(("name", "kind", "quantization"), CASES)
def test_methods_on_a_quantised_base(
    name: str, kind: Kind, quantization: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    method: Method = small_method(name)
    refused = "loses next to nothing" if (name, quantization) == ("loftq", "int8") else REFUSED.get(name)
    if refused:
        with pytest.raises(UnsupportedError, match=refused):
            method.check_quantization(quantization)
        return
    learn_and_load_again(method, kind, quantization, folders[kind.name], tmp_path)


@pytest.mark.parametrize("kind", [BERT, GPT2], ids=lambda kind: kind.name)
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_dora_on_a_quantised_base(kind: Kind, quantization: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """It unpacks the matrices, at the start and in every forward."""
    learn_and_load_again(METHODS.get("lora")(dora=True), kind, quantization, folders[kind.name], tmp_path)


def learn_and_load_again(method: Method, kind: Kind, quantization: str, folder: Path, tmp_path: Path) -> None:
    method.check_quantization(quantization)
    base = load(kind, folder, quantization)
    own = list(base.model.named_parameters())
    names = {id(parameter): name for name, parameter in own}
    context = replace(kind.context(STEPS), head_modules=base.head_modules)
    torch.manual_seed(0)
    model = method.apply(base.model, context)
    if method.needs_original:
        method.take_original(model, load(kind, folder, None).model)
    trainable = check_trainable_parameters(model, method, base_names=names, head_modules=base.head_modules)
    assert trainable.status == "passed", trainable.detail
    model.train()
    batch, optimizer = toy_batch(kind), optimizer_of(method, model)
    frozen, gradients = BaseGuard(model), GradientGuard(model)
    losses = [step(method, model, kind, optimizer, batch, number, gradients) for number in range(1, STEPS + 1)]
    assert min(losses[-3:]) < losses[0]
    assert gradients.result().status == "passed", gradients.result().detail
    assert frozen.result(model).status == "passed", frozen.result(model).detail
    before = logits_of(model.eval(), kind)
    # Evaluating has repacked nothing: the base is what it was, and training can go on.
    assert frozen.result(model).status == "passed", frozen.result(model).detail
    model.train()
    step(method, model, kind, optimizer, batch, STEPS)
    save_artifact(model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=context, base_path=str(folder))
    model.eval()
    again = load_artifact(lambda: load(kind, folder, quantization).model, tmp_path)
    assert torch.allclose(logits_of(again, kind), logits_of(model, kind), atol=1e-4)
    assert not torch.allclose(logits_of(again, kind), before, atol=1e-7)


@pytest.mark.parametrize("kind", [BERT, GPT2], ids=lambda kind: kind.name)
def test_plain_peft_loads_the_adapter_onto_either_base(kind: Kind, folders: dict[str, Path], tmp_path: Path) -> None:
    method: Any = METHODS.get("lora")(rank=4, alpha=8)
    base = load(kind, folders[kind.name], "nf4")
    context = replace(kind.context(STEPS), head_modules=base.head_modules)
    model = method.apply(base.model, context)
    optimizer = optimizer_of(method, model)
    for number in range(1, STEPS + 1):
        step(method, model, kind, optimizer, toy_batch(kind), number)
    save_artifact(model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=context, base_path="some/base")
    trained = logits_of(model.eval(), kind)
    for quantization in ("nf4", None):
        plain = peft.PeftModel.from_pretrained(
            load(kind, folders[kind.name], quantization).model, tmp_path / "adapter"
        ).eval()
        assert torch.allclose(logits_of(plain, kind), trained, atol=1e-4 if quantization else 1.5)


def test_what_does_not_know_transposed_matrices_is_refused_on_turned_ones_too(folders: dict[str, Path]) -> None:
    """It trained, and its adapter fitted neither GPT-2 itself nor GPT-2 in full, into which it is merged."""
    method, base = small_method("road"), load(GPT2, folders["gpt2"], "nf4")
    with pytest.raises(UnsupportedError, match="does not know the transposed matrices of GPT2"):
        method.apply(base.model, replace(GPT2.context(STEPS), head_modules=base.head_modules))


@pytest.mark.parametrize("kind", [BERT, GPT2], ids=lambda kind: kind.name)
def test_a_dequantised_base_takes_every_update(kind: Kind, folders: dict[str, Path], tmp_path: Path) -> None:
    """transformers left the mark of a quantised model on it, by which peft refused to merge (IA)³."""
    method = METHODS.get("ia3")()
    base = load(kind, folders[kind.name], "nf4")
    context = replace(kind.context(STEPS), head_modules=base.head_modules)
    model: Any = method.apply(base.model, context)
    optimizer = optimizer_of(method, model)
    for number in range(1, 4):
        step(method, model, kind, optimizer, toy_batch(kind), number)
    save_artifact(model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=context, base_path="some/base")
    again = load_artifact(lambda: dequantize(load(kind, folders[kind.name], "nf4").model), tmp_path)
    merged = merge(again, method)
    assert torch.allclose(logits_of(merged, kind), logits_of(model.eval(), kind), atol=1e-4)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_heads_and_embeddings_keep_their_precision(quantization: str, folders: dict[str, Path]) -> None:
    base = load(BERT, folders["bert"], quantization)
    full = load(BERT, folders["bert"], None)
    names = {name for name, module in base.model.named_modules() if module in quantized_layers(base.model)}
    assert len(names) == 13  # six matrices in each of two layers, and the pooler
    for head in base.head_modules:
        assert base.model.get_submodule(head).weight.dtype == torch.float32
        assert head not in names
    assert base.model.bert.embeddings.word_embeddings.weight.dtype == torch.float32
    counts = [sum(count_weights(parameter) for parameter in model.parameters()) for model in (base.model, full.model)]
    assert counts[0] == counts[1]
    assert quantization_state(base.model)
    assert not quantization_state(full.model)


def test_int8_layers_give_bitsandbytes_own_products_and_gradients(folders: dict[str, Path]) -> None:
    layer = quantized_layers(load(BERT, folders["bert"], "int8").model)[0].train()
    inputs = torch.randn(4, 7, layer.in_features, requires_grad=True)
    results = []
    for forward in (layer.forward, lambda x: type(layer).forward(layer, x)):
        output = forward(inputs)
        (gradient,) = torch.autograd.grad(output.square().sum(), inputs)
        results.append((output, gradient))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.allclose(results[0][1], results[1][1])


@pytest.mark.parametrize("initialization", ["pissa", "olora"])
def test_what_changes_the_base_is_refused(initialization: str) -> None:
    with pytest.raises(UnsupportedError, match="cannot be changed"):
        METHODS.get("lora")(initialization=initialization).check_quantization("nf4")
