"""A trial's scores as they come."""

from __future__ import annotations

import json
from pathlib import Path

from peftlab.bench.trial_curve import TrialCurve


class Trial:
    """Takes reports, and ends nothing."""

    def __init__(self) -> None:
        self.told: list[tuple[int, float]] = []

    def report(self, score: float, at: int) -> None:
        self.told.append((at, score))

    def should_prune(self) -> bool:
        return False


def test_an_evaluation_without_the_metric_is_passed_over(tmp_path: Path) -> None:
    """A correlation is not defined while all predictions are equal, as they are in a first epoch."""
    log = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 1, "validation": {"loss": 2.0}},
        {"step": 1, "loss": 1.0},
        {"step": 2, "validation": {"rho": 0.5}},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    trial = Trial()
    curve = TrialCurve(log, "rho", trial)
    assert curve.goes_on()
    curve.finish()
    assert trial.told == [(2, 0.5)]
    assert curve.last == 0.5
