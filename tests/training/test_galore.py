"""GaLore: fewer states than AdamW, the same steps where nothing is projected, and a state that checkpoints hold."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from peftlab.core.config import Document
from peftlab.core.errors import UnsupportedError
from peftlab.measurement.memory import optimizer_tensors, storage_bytes
from peftlab.preparation.check import check_model
from peftlab.recipe.schema import build_recipe
from peftlab.training.checkpoints import flatten_optimizer, restore_optimizer
from peftlab.training.optimizers import build_optimizer, set_learning_rate
from peftlab.training.training_config import TrainingConfig


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four directions, found anew every third step."""


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Embedding(50, 32), torch.nn.Linear(32, 64), torch.nn.Tanh(), torch.nn.Linear(64, 3)
    )


def steps(net: torch.nn.Module, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
    inputs, losses = torch.arange(40).reshape(8, 5), []
    for _ in range(count):
        set_learning_rate(optimizer, 1e-2)
        loss = (net(inputs) - inputs[..., None] / 40).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return losses


def test_it_learns_with_fewer_states() -> None:
    net, config = network(), TrainingConfig(optimizer={"type": "galore_adamw", "rank": 4, "update_proj_gap": 3})
    optimizer = build_optimizer(net, config, 1e-2)
    losses = steps(net, optimizer, 30)
    assert losses[-1] < 0.3 * losses[0]
    state = optimizer.state[net[1].weight]
    assert state["exp_avg"].shape == (64, 4)
    assert state["projection"].shape == (4, 32)
    assert optimizer.state[net[0].weight]["exp_avg"].shape == (50, 32)  # an embedding
    adamw = build_optimizer(other := network(), TrainingConfig(), 1e-2)
    steps(other, adamw, 1)
    assert storage_bytes(optimizer_tensors(optimizer)) < 0.7 * storage_bytes(optimizer_tensors(adamw))


@pytest.mark.parametrize("before", [1, 3, 4])
def test_it_goes_on_bit_for_bit(before: int) -> None:
    net, config = network(), TrainingConfig(optimizer={"type": "galore_adamw", "rank": 4, "update_proj_gap": 3})
    optimizer = build_optimizer(net, config, 1e-2)
    steps(net, optimizer, before)
    other = copy.deepcopy(net)
    flat = {key: value.clone() for key, value in flatten_optimizer(optimizer).items()}
    steps(net, optimizer, 5)
    fresh = build_optimizer(other, config, 1e-2)
    restore_optimizer(fresh, flat)
    steps(other, fresh, 5)
    for mine, its in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_adapters_are_refused(tiny_bert: Path) -> None:
    values = {
        "model": {"path": str(tiny_bert)},
        "task": {"type": "text_classification"},
        "data": {"source": "none.csv"},
        "method": {"type": "lora"},
        "training": {"optimizer": "galore_adamw"},
    }
    document = Document(source="test", values=values)
    with pytest.raises(UnsupportedError, match="lora trains none"):
        check_model(build_recipe(document, default_name="test"), document, offline=True)
