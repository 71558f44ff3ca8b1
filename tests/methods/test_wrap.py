"""`peftlab.wrap`: a method on a model in hand, trained by a loop of one's own."""

from __future__ import annotations

import peft
import pytest
import torch
from models import BUILDERS, KINDS, toy_batch
from torch import nn

import peftlab
from peftlab.core.errors import ConfigError, UnsupportedError

ALIKE = {kind.name: kind for kind in KINDS}
REFUSED = {("llama", "bitfit"), ("gpt2-lm", "linear_probe")}


@pytest.mark.parametrize("name", ["bert", "bert-tokens", "gpt2-lm", "llama"])
@pytest.mark.parametrize("method", list(peftlab.METHODS))
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
    ],
)
def test_what_cannot_be_is_said(method: str, settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        peftlab.wrap(BUILDERS["bert"](), method, **settings)


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_virtual_tokens_need_tokens(method: str) -> None:
    with pytest.raises(UnsupportedError, match="no embeddings of tokens"):
        peftlab.wrap(Tower(), method)
