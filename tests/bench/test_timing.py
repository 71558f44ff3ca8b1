"""What a suite's time is guessed by, before any of its runs has been timed."""

from __future__ import annotations

from typing import Any

import pytest

from peftlab.bench.timing import Workload
from peftlab.core.config import Document
from peftlab.recipe.schema import Recipe, build_recipe


def recipe(training: dict[str, Any] | None = None, **data: Any) -> Recipe:
    values = {
        "model": {"path": "none"},
        "task": {"type": "text_classification"},
        "data": {"source": {"train": "a.csv", "unlabeled": "b.csv"}, **data},
        "method": {"type": "lora"},
        "training": {"epochs": 2, **(training or {})},
    }
    return build_recipe(Document(source="test", values=values), default_name="test")


@pytest.mark.parametrize(
    ("more", "runs"),
    [
        (recipe({"self_training": {"rounds": 2}}), 3),
        (recipe(prune={"folds": 4}), 4),  # four runs of three fourths, and the run itself
        (recipe({"self_training": {"rounds": 1}}, prune={"folds": 2}), 3),
        (recipe(augmentation=[{"type": "typos", "rows": "unlabeled", "keep_if": "agrees"}]), 2),
        (recipe({"regularizers": [{"type": "fgm"}]}), 2),
    ],
)
def test_runs_that_come_first_and_passes_count(more: Recipe, runs: int) -> None:
    work = Workload(1000, 20.0, {"train": 100})
    assert work.flops(more) == pytest.approx(runs * work.flops(recipe()))
