"""FLOPs by hand, phases that do not overlap, and a meter that leaves out what it should."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from peftlab.measurement import phases, roofline, step_clock
from peftlab.measurement.environment import describe_environment
from peftlab.measurement.phases import PhaseClock
from peftlab.measurement.roofline import StepFlops, fit_step_flops, measure_matmul_rate
from peftlab.measurement.throughput import ThroughputMeter

CPU = torch.device("cpu")


class Clock:
    """A clock that only its owner turns: how busy the machine is changes nothing."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (phases, step_clock):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize(("frozen", "products"), [((), 5), ((0,), 3), ((1,), 4), ((0, 1), 2)])
def test_a_stack_of_layers(frozen: tuple[int, ...], products: int) -> None:
    """Forward is one product a layer; backward one for each weight that trains, and one for each input that must."""
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Linear(16, 8, bias=False))
    for layer in frozen:
        model[layer].weight.requires_grad_(False)

    def step(length: int, texts: int) -> None:
        output = model(torch.ones(length * texts, 8))
        if output.requires_grad:
            output.sum().backward()

    flops = fit_step_flops(step, (3, 10, 31))
    assert flops.linear == pytest.approx(products * 2 * 8 * 16)
    assert flops.quadratic == pytest.approx(0, abs=1e-6)
    assert flops.of([4, 6]) == pytest.approx(products * 2 * 8 * 16 * 10)


def test_a_bert_with_attention_and_head() -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    model = BertForSequenceClassification(config).eval()

    def forward(length: int, texts: int) -> None:
        with torch.no_grad():
            model(input_ids=torch.ones(texts, length, dtype=torch.long), attention_mask=torch.ones(texts, length))

    flops = fit_step_flops(forward, (4, 9, 20))
    matrices = 4 * 16 * 16 + 2 * 16 * 32
    assert flops.linear == pytest.approx(2 * 2 * matrices)
    assert flops.quadratic == pytest.approx(2 * 2 * 2 * 16)  # two layers, two products of 2·L²·hidden
    assert flops.constant == pytest.approx(2 * (16 * 16 + 16 * 2), abs=1e-3)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=50))
def test_a_batch_is_the_sum_of_its_texts(lengths: list[int]) -> None:
    flops = StepFlops(3.0, 5.0, 0.25, step=7.0)
    assert flops.of(lengths) - 7 == pytest.approx(sum(flops.of([length]) - 7 for length in lengths))


def test_what_a_step_costs_once_is_not_charged_to_every_text() -> None:
    """DoRA multiplies its own matrices once a step, however many texts there are."""
    weight, a, b = torch.ones(8, 8), torch.ones(2, 8), torch.ones(8, 2)

    def step(length: int, texts: int) -> None:
        torch.ones(length * texts, 8) @ (weight + b @ a)

    flops = fit_step_flops(step, (3, 10, 31))
    assert flops.step == 2 * 8 * 2 * 8
    assert flops.of([10] * 32) == pytest.approx(2 * 8 * 2 * 8 + 32 * 10 * 2 * 8 * 8)


def test_the_matmul_rate_is_a_rate(real_sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "SIZES", real_sizes)
    assert measure_matmul_rate(CPU, torch.float32) > 1e9


def test_the_rate_is_measured_in_the_room_that_there_is(
    real_sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run would end for lack of memory before its first step, which would have fitted."""
    monkeypatch.setattr(roofline, "SIZES", real_sizes)
    answers = {"mem_get_info": lambda _: (free, 24 * 10**9), "memory_reserved": lambda _: 3 * 10**8}
    for name, answer in {**answers, "memory_allocated": lambda _: 10**8}.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    sizes = []
    for free in (20 * 10**9, 3 * 10**8, 0):
        sizes.append(roofline._size_of_matrices(torch.device("cuda"), torch.bfloat16))
        assert 10 * sizes[-1] ** 2 <= free + 2 * 10**8
    assert sizes == [8192, 4096, 2048]


def test_inner_phases_pause_the_outer_one(clock: Clock) -> None:
    measured = PhaseClock(CPU)
    with measured.phase("train"):
        clock.pass_by(1)
        with measured.phase("evaluate"):
            clock.pass_by(50)
        clock.pass_by(2)
    summary = measured.summary()
    assert (summary["train"].seconds, summary["evaluate"].seconds) == (3, 50)
    measured.set_peak("train", 10)
    measured.set_peak("train", 5)
    assert measured.summary()["train"].peak_memory_bytes == 10
    assert measured.summary()["evaluate"].peak_memory_bytes is None


def test_a_resumed_clock_adds_training_and_evaluation_only(clock: Clock) -> None:
    first = PhaseClock(CPU)
    for name in ("load", "train"):
        with first.phase(name):
            clock.pass_by(2)
    second = PhaseClock(CPU)
    second.restore(first.state_dict())
    assert second.summary()["train"].seconds == 2
    assert "load" not in second.summary()


def meter(warmup: int) -> ThroughputMeter:
    return ThroughputMeter(warmup, device=CPU, step_flops=StepFlops(0, 100, 0))


def run_step(meter: ThroughputMeter, clock: Clock, seconds: float, lengths: list[int], padded: int) -> None:
    meter.step_started()
    clock.pass_by(seconds)
    meter.step_ended(lengths, padded)


def test_warm_up_and_pauses_do_not_count(clock: Clock) -> None:
    measured = meter(1)
    run_step(measured, clock, 16, [1000], 1000)
    run_step(measured, clock, 2, [10, 20], 40)
    clock.pass_by(100)
    run_step(measured, clock, 2, [10], 10)
    summary = measured.summary(matmul_flops_per_second=1e6)
    assert summary is not None
    assert summary.timed_steps == 2
    assert summary.tokens_per_second == 40 / 4
    assert summary.padding_fraction == pytest.approx(1 - 40 / 50)
    assert summary.flops_utilization == pytest.approx(summary.tokens_per_second * 100 / 1e6)


def test_a_resumed_meter_goes_on(clock: Clock) -> None:
    first = meter(0)
    run_step(first, clock, 1, [10], 10)
    second = meter(0)
    second.load_state_dict(first.state_dict())
    run_step(second, clock, 1, [10], 10)
    summary = second.summary(matmul_flops_per_second=None)
    assert summary is not None
    assert summary.timed_steps == 2
    assert summary.flops_utilization is None


def test_no_timed_step_no_figure() -> None:
    assert meter(3).summary(matmul_flops_per_second=1.0) is None


def test_the_environment_names_versions_and_nobody() -> None:
    import getpass
    import platform

    environment = describe_environment(CPU, deterministic=False)
    assert environment["versions"]["torch"].startswith("2.")
    assert environment["device"]["type"] == "cpu"
    assert environment["tf32"] is None, "it is a card's"
    text = str(environment)
    assert platform.node() not in text
    assert f"'{getpass.getuser()}'" not in text


@pytest.mark.parametrize(
    "tell",
    [
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    ],
    ids=["older", "products", "all"],
)
def test_a_record_says_how_a_card_multiplies_however_it_was_told(
    tell: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers' Trainer takes the last way, after which torch's older settings raise an error when asked."""
    card = SimpleNamespace(name="card", total_memory=1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: card)

    def told() -> dict[str, bool]:
        return describe_environment(torch.device("cuda"), deterministic=True)["tf32"]

    assert told() == {"products": False, "convolutions": True}
    try:
        tell()
        assert told() == {"products": True, "convolutions": True}
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "none"
    assert told() == {"products": False, "convolutions": True}


def test_a_head_that_only_sees_what_is_to_be_predicted() -> None:
    """Texts of other lengths and other numbers of labels than those that were counted."""
    body, head = torch.ones(8, 8), torch.ones(8, 100)
    labels = {4: 1, 9: 7, 20: 3, 31: 30, 40: 12, 50: 2}

    def step(length: int, texts: int) -> None:
        states = torch.ones(length * texts, 8) @ body
        states[: labels[length] * texts] @ head

    flops = fit_step_flops(step, list(labels), list(labels.values()))
    assert flops.of([15, 25], terms=11) == pytest.approx(2 * 8 * 8 * 40 + 2 * 8 * 100 * 11)


def test_texts_of_one_length_settle_what_they_cost_themselves() -> None:
    def step(length: int, texts: int) -> None:
        torch.ones(length * texts, 8) @ torch.ones(8, 8)

    assert fit_step_flops(step, [12]).of([12] * 5) == pytest.approx(2 * 8 * 8 * 60)
