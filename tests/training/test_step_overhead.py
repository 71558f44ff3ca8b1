"""A step does nothing but its work: what does not change from step to step is not asked again."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from peftlab.training.loop import optimizer_step
from tests.preparation.test_rehearsal import job_of


def test_a_step_looks_for_no_package(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate does so wherever it unwraps a model, and twice in each step of an optimizer."""
    job = job_of(tiny_bert, "lora")
    step = next(iter(job.plan.steps(after=0)))
    optimizer_step(job, step)
    looked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: looked.append(name))
    optimizer_step(job, step)
    assert looked == []
