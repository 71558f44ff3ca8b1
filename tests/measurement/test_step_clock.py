"""On a card steps are timed by the card, which nobody waits for before the figures are read."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import pytest
import torch

from peftlab.measurement.step_clock import CudaClock
from peftlab.measurement.throughput import ThroughputMeter


class Event:
    """A card's event, whose clock goes a tenth of a second a note."""

    notes = 0
    waited = 0
    alive: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        Event.alive.add(self)

    def record(self, _stream: Any) -> None:
        Event.notes += 1
        self.at = Event.notes

    def query(self) -> bool:
        return Event.notes - self.at > 10  # the card is some steps behind

    def synchronize(self) -> None:
        Event.waited += 1

    def elapsed_time(self, end: Any) -> float:
        return 100.0 * (end.at - self.at)


@pytest.fixture(autouse=True)
def _events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("a step waits for the card"))
    Event.notes = Event.waited = 0


def test_seconds_are_read_once_and_late() -> None:
    clock = CudaClock(torch.device("cuda"))
    for _ in range(3):
        clock.start()
        clock.stop()
    assert Event.waited == 0
    assert clock.seconds() == pytest.approx(0.3)
    assert clock.seconds() == 0.0
    assert Event.waited == 1


def test_a_long_epoch_keeps_no_events_of_steps_that_are_done() -> None:
    clock = CudaClock(torch.device("cuda"))
    for _ in range(1000):
        clock.start()
        clock.stop()
    assert len(Event.alive) < 20
    assert Event.waited == 0
    assert clock.seconds() == pytest.approx(100.0)


def test_the_meter_leaves_warm_up_out_and_goes_on_from_a_checkpoint() -> None:
    meter = ThroughputMeter(1, device=torch.device("cuda"), step_flops=None)
    for _ in range(3):
        meter.step_started()
        meter.step_ended([3, 2], 8, 2)
    assert Event.waited == 0
    state = meter.state_dict()
    assert state["seconds"] == pytest.approx(0.2)
    resumed = ThroughputMeter(1, device=torch.device("cuda"), step_flops=None)
    resumed.load_state_dict(state)
    for _ in range(2):
        resumed.step_started()
        resumed.step_ended([5], 5, 1)
    summary = resumed.summary(matmul_flops_per_second=None)
    assert summary is not None
    assert summary.timed_steps == 3
    assert summary.tokens_per_second == pytest.approx(15 / 0.3)
