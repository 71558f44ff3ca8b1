"""`peftlab.wrap`: a method on a model in hand, trained by a loop of one's own."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn

import peftlab
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.testing.tiny_models import BUILDERS, KINDS, toy_batch
from tests.small_methods import DISTINCT

ALIKE = {kind.name: kind for kind in KINDS}
SMALL = transformers.BertConfig(
    vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
)
REFUSED = {("llama", "bitfit"), ("gpt2-lm", "linear_probe")}


@pytest.mark.parametrize("name", ["bert", "bert-tokens", "gpt2-lm", "llama"])
@pytest.mark.parametrize("method", DISTINCT)
def test_a_transformers_model_learns(name: str, method: str) -> None:
    if (name, method) in REFUSED:
        with pytest.raises(UnsupportedError):
            peftlab.wrap(BUILDERS[name](), method)
        return
    torch.manual_seed(0)
    kind = ALIKE[name]
    model = peftlab.wrap(BUILDERS[name](), method, total_steps=40).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    share = sum(p.numel() for p in trained) / sum(p.numel() for p in model.parameters())
    assert share == 1 if method == "full" else 0 < share < 0.6
    assert all(
        any(p.requires_grad for n, p in model.named_parameters() if f".{head}." in f".{n}") for head in kind.head
    )
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    batch = toy_batch(kind)
    losses = []
    for _ in range(12):
        loss = kind.task.training_loss(model, batch) / kind.task.loss_terms(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


class Tower(nn.Module):
    """Any torch model."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6)), nn.Linear(6, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(inputs))


@pytest.mark.parametrize("method", ["lora", "adalora", "full", "bitfit", "linear_probe"])
def test_any_torch_model(method: str) -> None:
    model = peftlab.wrap(Tower(), method, head_modules=["head"], total_steps=20)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("head" in name for name in trained)
    assert method == "full" or not any(name.endswith("inner.0.weight") for name in trained)
    model(torch.ones(3, 4)).sum().backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_settings_are_those_of_a_recipe() -> None:
    model = peftlab.wrap(BUILDERS["bert"](), "lora", rank=2, alpha=3, target_modules=["query"])
    assert isinstance(model, peft.PeftModel)
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha) == (2, 3)
    assert {name.rpartition(".")[2] for name in config.target_modules} == {"query"}
    same = peftlab.wrap(BUILDERS["bert"](), peftlab.METHODS["lora"](rank=2, alpha=3, target_modules=["query"]))
    assert same.peft_config["default"].r == 2
    with pytest.raises(TypeError, match="has its own"):
        peftlab.wrap(BUILDERS["bert"](), peftlab.METHODS["lora"](), rank=2)


@pytest.mark.parametrize(
    ("method", "settings", "error", "message"),
    [
        ("lroa", {}, ConfigError, "lora"),
        ("lora", {"rnak": 4}, ConfigError, "rank"),
        ("lora", {"rank": 0}, ConfigError, "rank"),
        ("lora", {"target_modules": ["qery"]}, UnsupportedError, "query"),
        ("adalora", {}, UnsupportedError, "steps"),
        ("lora", {"head_modules": ["clasifier"]}, ConfigError, r"no module `clasifier`\n.*classifier"),
        (
            "lora",
            {"head_modules": "classifier"},
            ConfigError,
            r"head_modules: a list of names is needed, not 'classifier'",
        ),
        ("lora", {"total_steps": "3"}, ConfigError, "total_steps: a number of steps is needed, not '3'"),
        (3, {}, ConfigError, "method: the name of a method, or a method, is needed, not 3"),
        (peftlab.METHODS["lora"], {}, ConfigError, "the name of a method, or a method, is needed"),
    ],
)
def test_what_cannot_be_is_said(method: Any, settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        peftlab.wrap(BUILDERS["bert"](), method, **settings)


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_virtual_tokens_need_tokens(method: str) -> None:
    with pytest.raises(UnsupportedError, match="no embeddings of tokens"):
        peftlab.wrap(Tower(), method)


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_virtual_tokens_go_before_the_texts_of_a_model_without_a_head(method: str) -> None:
    model = peftlab.wrap(transformers.BertModel(SMALL), method)
    model(input_ids=torch.tensor([[1, 2, 3]]), attention_mask=torch.ones(1, 3)).last_hidden_state.sum().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in trained)


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_virtual_tokens_do_not_go_before_images(method: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8)
    with pytest.raises(UnsupportedError, match="ViTForImageClassification has no embeddings of tokens"):
        peftlab.wrap(transformers.ViTForImageClassification(config), method)


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        ("bert-base", "lora", r"model: a torch model is needed, not 'bert-base'\n.*from_pretrained"),
        (peftlab.wrap(Tower(), "lora"), "lora", r"the model has an adapter already\n.*merge_and_unload"),
        (nn.Linear(4, 4), "lora", r"lora does not go on Linear: .*\n.*nn.Sequential\(layer\)"),
        (nn.Sequential(nn.ReLU()), "lora", "Sequential has no linear layer"),
        (nn.Sequential(nn.ReLU()), "full", "full trains nothing in Sequential"),
        (Tower(), "ia3", r"rescales in a Tower model\n.*target_modules"),
        (Tower(), "houlsby_adapter", "Name it in method.attention_output_modules"),
        (Tower(), "linear_probe", "trains the task's head, and this task has none"),
    ],
)
def test_models_that_a_method_does_not_go_on(model: Any, method: str, message: str) -> None:
    with pytest.raises((ConfigError, UnsupportedError), match=message):
        peftlab.wrap(model, method)


def test_rescaled_layers_of_any_model_can_be_named() -> None:
    model = peftlab.wrap(Tower(), "ia3", target_modules=["0", "2"], feedforward_modules=["2"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[-3] for name in trained} == {"0", "2"}
