"""Plugins that fail: the report of all runs is made all the same, and says what has failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fakes import METHODS, FakeData, write_run

from peftlab.core.metric import METRICS, Metric
from peftlab.core.task import TASKS
from peftlab.report.document import build_report
from peftlab.report.evidence import Basis
from peftlab.report.markdown import render_markdown
from peftlab.report.page import render_html

FULL, LORA, *_ = METHODS
SCORES = {"test": {"acme": 0.5, "accuracy": 0.5}}


class Acme(Metric):
    """A metric of others, whose values an example are what a test says."""

    higher_is_better: ClassVar[bool] = True
    given: ClassVar[Any] = None

    @classmethod
    def per_example(cls, labels: Any, predictions: Any) -> Any:
        return cls.given(labels)


def boom(labels: Any) -> Any:
    raise RuntimeError("boom <b>")


@pytest.fixture
def metric() -> Iterator[type[Acme]]:
    METRICS.register("acme")(Acme)
    yield Acme
    del METRICS._classes["acme"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (boom, "RuntimeError: boom"),
        (lambda labels: np.ones((2, 2)), "values of the shape (2, 2)"),
        (lambda labels: ["x"] * len(labels), "ValueError"),
    ],
    ids=["raises", "another shape", "no numbers"],
)
def test_a_metric_that_fails_leaves_the_seeds(tmp_path: Path, metric: type[Acme], given: Any, told: str) -> None:
    metric.given = staticmethod(given)
    for method in (FULL, LORA):
        for seed in (0, 1):
            scores = {"test": {"acme": 0.5 + 0.1 * seed + 0.01 * len(method.name)}}
            write_run(tmp_path / f"{method.name}{seed}", method, seed, FakeData(50), scores=scores)
    report = build_report([tmp_path], metric="acme")
    (comparison,) = report.comparisons
    assert [method.interval.basis for method in comparison.methods] == [Basis.SEEDS] * 2
    text = render_markdown(report)
    assert told in text.replace("\\", "")
    assert "So acme has no values per example here." in text
    assert "test_report_plugins" in text.replace("\\", "")  # whose it is
    assert "boom <b>" not in render_html(report)


def test_a_metric_of_lists_is_taken(tmp_path: Path, metric: type[Acme]) -> None:
    metric.given = staticmethod(lambda labels: [0.5] * (len(labels) - 1) + [0.7])
    write_run(tmp_path / "a", FULL, 0, FakeData(50), scores={"test": {"acme": 0.504}})
    (comparison,) = build_report([tmp_path], metric="acme").comparisons
    assert comparison.methods[0].interval.basis is Basis.EXAMPLES
    assert not comparison.examples.fault


def test_predictions_that_a_metric_cannot_judge_leave_one_run_out(tmp_path: Path) -> None:
    """Classes where numbers were to be predicted."""
    scores = {"test": {"mean_absolute_error": 0.5}}
    write_run(tmp_path / "a", FULL, 0, FakeData(50), scores=scores)
    write_run(tmp_path / "b", LORA, 0, FakeData(50), scores=scores, predictions=False)
    report = build_report([tmp_path], metric="mean_absolute_error")
    assert [item.reason[:40] for item in report.excluded] == ["its predictions give no mean_absolute_er"]
    assert len(report.comparisons[0].methods) == 1


def test_a_task_that_fails_leaves_the_rest_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = type("AcmeTask", (TASKS["text_classification"],), {"__module__": "acme.task"})
    monkeypatch.setitem(TASKS._classes, "text_classification", task)
    write_run(tmp_path / "a", FULL, 0, FakeData(50))
    monkeypatch.setattr(task, "report_parts", classmethod(lambda cls, methods: boom(methods)))
    report = build_report([tmp_path])
    assert "The plugin acme.task has failed (RuntimeError: boom" in render_markdown(report).replace("\\", "")
    assert "Learning curves" in render_html(report)
    monkeypatch.setattr(task, "compared_units", classmethod(lambda cls, read: boom(read)))
    assert "The plugin acme.task has failed" in build_report([tmp_path]).excluded[0].reason
