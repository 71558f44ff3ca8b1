"""What is counted without a card is counted rightly, and is no more than it was."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from benchmarks.gpu import counts, overhead
from benchmarks.gpu.counting import StepCounter, WaitCounter
from peftlab.measurement.memory import LiveBytes

pytestmark = pytest.mark.slow


def test_kernels_of_a_small_model() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))
    states = torch.randn(5, 4)
    with StepCounter(model[2].weight) as forward:
        outputs = model(states)
    assert forward.kernels == {"addmm": 1, "relu": 1, "mm": 1}
    assert forward.reads == 1
    with StepCounter(model[2].weight) as backward:
        outputs.sum().backward()
    # Two products for the second matrix, one for the first, whose inputs do not learn; its bias adds rows up.
    assert backward.kernels["mm"] == 3
    assert backward.reads == 1
    tensors = [torch.ones(1) for _ in range(97)]
    with StepCounter() as many:
        torch._foreach_mul_(tensors, 2.0)
        states[:, 1:].t()[:0].add(1)
    assert many.total == 3


def test_waits() -> None:
    values = torch.arange(4.0)
    with WaitCounter() as counter:
        values.add(1).mul_(2)
        values.to(torch.float64)
    assert not counter.waits
    with WaitCounter() as counter:
        values.sum().item()
        float(values[0])
        if values[1] > 0:
            values[values > 1]
        values.cpu()
        values.tolist()
        values.nonzero()
    assert counter.waits.total() == 7
    assert all("test_counts.py" in place for place in counter.waits)

    def collate() -> None:
        values.nonzero()

    with WaitCounter() as counter:
        collate()
    assert not counter.waits


def test_kept_bytes_of_a_small_model() -> None:
    model, states = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid()), torch.randn(5, 4)
    watcher = LiveBytes([*model.parameters(), states])
    with watcher:
        before = watcher.current_bytes
        outputs = model(states)
        assert watcher.current_bytes - before == outputs.numel() * 4  # what the sigmoid gives is all that it keeps


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.filterwarnings("ignore")


@pytest.mark.parametrize(("name", "most"), [("llama_8b", 14.0), ("llama_3b", 14.0), ("bert_base", 16.5)])
def test_what_a_layer_keeps(name: str, most: float) -> None:
    assert counts.kept(name, "auto", (16, 32)) <= most


def test_a_step_launches_less_than_half_as_much() -> None:
    plain, less = (counts.kernels("llama_3b", mode, 2, [64, 64])["kernels"] for mode in ("off", "auto"))
    assert less < 0.55 * plain  # of two layers; the more there are, the less
    assert counts.kernels("llama_3b", "auto", 1, [8192])["head_reads"] <= 10


@pytest.mark.parametrize("name", ["bert_base", "llama_3b"])
def test_no_step_waits_for_the_card(name: str) -> None:
    assert counts.waits(name, "off")  # transformers looks at its masks
    assert counts.waits(name, "auto") == {}


def test_what_a_step_costs_beside_the_model() -> None:
    assert 0 < overhead.least_seconds(40) < 0.01  # 0.8 ms on a quiet machine; this one may be busy
