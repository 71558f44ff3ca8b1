"""Live bytes agree with what can be counted by hand."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from peftlab.measurement.memory import LiveBytes, measure_training_memory, peak_of, storage_bytes

CPU = torch.device("cpu")
FLOAT = 4


def test_a_tensor_counts_from_its_making_to_its_end() -> None:
    watch = LiveBytes()
    with watch:
        a = torch.empty(1000, 1000)
        assert watch.current_bytes == 1000 * 1000 * FLOAT
        view, same = a[:10], a.t()
        a.add_(1)
        assert watch.current_bytes == 1000 * 1000 * FLOAT
        b = a * 2
        assert watch.current_bytes == 2 * 1000 * 1000 * FLOAT
        del a, view, same
        gc.collect()
        assert watch.current_bytes == 1000 * 1000 * FLOAT
        del b
    assert watch.current_bytes == 0
    assert watch.peak_bytes == 2 * 1000 * 1000 * FLOAT


def test_what_was_there_before_counts_when_it_is_handed_over() -> None:
    weight = torch.zeros(100)
    result, peak = peak_of(lambda: weight + 1, device=CPU, existing=[weight, weight.view(10, 10)])
    assert result.sum() == 100
    assert peak == 2 * 100 * FLOAT


def test_a_resized_storage_is_counted_anew() -> None:
    watch = LiveBytes()
    with watch:
        a = torch.empty(10)
        a.resize_(1000)
        assert watch.current_bytes == 1000 * FLOAT


def build(width: int = 64, depth: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(depth)])


def training_memory(model: nn.Module, batch: int, width: int = 64):
    inputs = torch.randn(batch, width)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)

    def step() -> None:
        model(inputs).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return measure_training_memory(step, model=model, optimizer=optimizer, device=CPU)


def test_categories_of_a_step_are_the_known_sums() -> None:
    memory = training_memory(build(), batch=512)
    weights = 3 * 64 * 64 * FLOAT
    assert memory.parameters_bytes == weights
    assert memory.gradients_bytes == weights
    assert memory.optimizer_bytes == 2 * weights + 3 * FLOAT  # two moments, and a step counter for each tensor
    activation = 512 * 64 * FLOAT
    # While the backward pass begins, the input, two inner activations, the output's gradient (a broadcast of one number)
    # and the gradient that it makes are alive.
    assert 3 * activation <= memory.activations_bytes + memory.gradients_bytes <= 5 * activation
    assert memory.peak_bytes == pytest.approx(
        memory.parameters_bytes + memory.gradients_bytes + memory.optimizer_bytes + memory.activations_bytes
    )


def test_a_second_measurement_is_the_same() -> None:
    assert training_memory(build(), 100) == training_memory(build(), 100)


def test_frozen_layers_have_no_gradient_and_no_state() -> None:
    model = build()
    model[0].weight.requires_grad_(False)
    model[1].weight.requires_grad_(False)
    memory = training_memory(model, 100)
    assert memory.gradients_bytes == 64 * 64 * FLOAT
    assert memory.optimizer_bytes == 2 * 64 * 64 * FLOAT + FLOAT
    assert memory.peak_bytes < training_memory(build(), 100).peak_bytes


def test_checkpointing_lowers_the_peak() -> None:
    class Deep(nn.Module):
        def __init__(self, save: bool) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.GELU())] * 4) for _ in range(4)
            )
            self.save = save

        def forward(self, inputs):
            for block in self.blocks:
                inputs = checkpoint(block, inputs, use_reentrant=False) if self.save else block(inputs)
            return inputs

    assert training_memory(Deep(True), 512).peak_bytes < 0.6 * training_memory(Deep(False), 512).peak_bytes


def test_tied_weights_count_once() -> None:
    a = torch.zeros(10)
    assert storage_bytes([a, a.view(5, 2), torch.zeros(5)]) == 15 * FLOAT


def test_states_that_lie_on_no_card_are_not_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes' paged states are shared with the CPU, and no allocator of a card's memory counts them."""
    monkeypatch.setattr("peftlab.measurement.memory.peak_of", lambda step, **_: (step(), 10**6))
    model, inputs = build(depth=1), torch.randn(2, 64)
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        model(inputs).sum().backward()
        optimizer.step()

    found = measure_training_memory(step, model=model, optimizer=optimizer, device=torch.device("cuda"))
    assert found.optimizer_bytes == 0
    assert found.activations_bytes == 10**6 - found.parameters_bytes - found.gradients_bytes


@pytest.mark.gpu
def test_on_cuda_the_allocator_is_asked() -> None:
    device = torch.device("cuda")
    _, peak = peak_of(lambda: torch.empty(1 << 20, device=device), device=device)
    assert peak >= 4 << 20
