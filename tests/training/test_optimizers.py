"""Learning rates, weight decay, and optimizer states that survive a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftlab.training.checkpoints import flatten_optimizer, restore_optimizer
from peftlab.training.optimizers import build_optimizer, learning_rate_schedule, set_learning_rate
from peftlab.training.training_config import TrainingConfig


@given(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.floats(0, 1),
    st.integers(1, 200),
)
def test_rates_rise_to_the_peak_and_never_reach_zero(schedule: str, warmup: float, total: int) -> None:
    rate = learning_rate_schedule(TrainingConfig(schedule=schedule, warmup_fraction=warmup), 2.0, total)
    rates = [rate(step) for step in range(1, total + 1)]
    assert all(0 < value <= 2.0 for value in rates)
    assert max(rates) == 2.0
    peak = rates.index(2.0)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if schedule == "constant":
        assert rates[-1] == 2.0


def test_linear_falls_by_equal_amounts() -> None:
    rate = learning_rate_schedule(TrainingConfig(schedule="linear", warmup_fraction=0.2), 1.0, 10)
    assert [rate(step) for step in range(1, 11)] == pytest.approx(
        [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    )


def test_only_matrices_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    model[0].weight.requires_grad_(True)
    optimizer = build_optimizer(model, TrainingConfig(weight_decay=0.1), 1e-3)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model[0].weight)] == 0.1
    assert decays[id(model[0].bias)] == decays[id(model[1].weight)] == 0.0


@pytest.mark.parametrize("name", ["paged_adamw_8bit", "paged_ademamix_8bit"])
def test_restored_states_are_paged_as_they_were(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded into a card's own memory they would not fit, where only paging had made room for them."""
    library = pytest.importorskip("bitsandbytes")

    def in_pages(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        made = torch.zeros(shape, dtype=dtype)
        made.is_paged = True  # as on a card; a CPU has no pages
        return made

    kind = library.optim.optimizer.Optimizer8bit
    monkeypatch.setattr(kind, "get_state_buffer", lambda _, p, dtype: in_pages(p.shape, dtype))
    monkeypatch.setattr(
        library.optim.AdEMAMix, "_get_state_double_buffer", lambda _, p, dtype: in_pages((2, *p.shape), dtype)
    )
    monkeypatch.setattr(library.functional, "prefetch_tensor", lambda _: None)
    model = torch.nn.Linear(80, 80)
    optimizer = build_optimizer(model, TrainingConfig(optimizer=name), 1e-2)
    model(torch.ones(2, 80)).sum().backward()
    optimizer.step()
    fresh = build_optimizer(model, TrainingConfig(optimizer=name), 1e-2)
    restore_optimizer(fresh, flatten_optimizer(optimizer))
    for parameter, entry in optimizer.state.items():
        for key in ("state1", "state2"):
            assert fresh.state[parameter][key].is_paged
            assert torch.equal(fresh.state[parameter][key], entry[key])


@pytest.mark.gpu
def test_on_a_card_restored_states_are_paged() -> None:
    pytest.importorskip("bitsandbytes")
    model = torch.nn.Linear(400, 400, device="cuda")  # below 100,000 numbers nothing is paged
    optimizer = build_optimizer(model, TrainingConfig(optimizer="paged_adamw_8bit"), 1e-2)
    model(torch.ones(2, 400, device="cuda")).sum().backward()
    optimizer.step()
    other = copy.deepcopy(model)
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        its.grad = mine.grad.clone()
    fresh = build_optimizer(other, TrainingConfig(optimizer="paged_adamw_8bit"), 1e-2)
    restore_optimizer(fresh, flatten_optimizer(optimizer))
    optimizer.step()
    fresh.step()
    assert fresh.state[other.weight]["state1"].is_paged
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit", "lion_8bit", "galore_adamw"])
def test_a_restored_optimizer_goes_on_bit_for_bit(name: str) -> None:
    torch.manual_seed(0)
    # 8-bit states begin at 4096 elements; smaller tensors keep 32 bits.
    model = torch.nn.Sequential(torch.nn.Linear(80, 80), torch.nn.Linear(80, 3))
    inputs = torch.randn(6, 80)
    config = TrainingConfig(optimizer=name)

    def steps(net: torch.nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for step in range(count):
            set_learning_rate(optimizer, 1e-2 / (step + 1))
            net(inputs).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    optimizer = build_optimizer(model, config, 1e-2)
    steps(model, optimizer, 3)
    other = copy.deepcopy(model)
    flat = {key: value.clone() for key, value in flatten_optimizer(optimizer).items()}
    steps(model, optimizer, 3)
    fresh = build_optimizer(other, config, 1e-2)
    restore_optimizer(fresh, flat)
    steps(other, fresh, 3)
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)
