"""The metric of a suite that names none: one that measures all of its data, and the same for all cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peftlab.bench.plan import Plan
from peftlab.bench.suite import load_suite
from peftlab.bench.suite_folder import SuiteFolder
from peftlab.core.errors import ConfigError
from peftlab.core.reporter import Silent

SHORT = [{"prompt": f"a {word} film", "response": word} for word in ("good", "bad", "fine", "dull")] * 3
LONG = [{**row, "response": f"it is said that the film was {row['response']} for us"} for row in SHORT]
VARIED = [{"text": f"a film {at}", "label": float(at)} for at in range(12)]
EQUAL = [{**row, "label": 3.0} for row in VARIED]


def write_suite(folder: Path, model: Path, task: str, rows: dict[str, list[Any]], evaluation: str = "{}") -> Path:
    train = LONG if "prompt" in next(iter(rows.values()))[0] else VARIED
    for name, lines in {"train": train, **rows}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    recipe = {
        "model": {"path": str(model)},
        "task": {"type": task, "max_length": 32},
        "data": {"source": {"train": "train.jsonl", "validation": f"{next(iter(rows))}.jsonl"}, "deduplicate": False},
        "method": {"type": "lora"},
        "training": {"epochs": 1},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    suite = {
        "name": "tiny",
        "recipe": "recipe.yaml",
        "methods": [{"type": "lora"}, {"type": "full"}],
        "axes": {"data": {name: {"data.source.validation": f"{name}.jsonl"} for name in rows}},
        "seeds": [0, 1],
        "tuning": None,
        "set": json.loads(evaluation),
    }
    (folder / "suite.yaml").write_text(json.dumps(suite))
    return folder / "suite.yaml"


def metrics(path: Path) -> set[str]:
    """Of every run that the suite plans."""
    plan = Plan(*load_suite(path), SuiteFolder(path.parent / "out"), offline=True, reporter=Silent())
    return {str(run.recipe.evaluation.metric) for run in plan.runs()}


@pytest.mark.parametrize(
    ("task", "rows", "metric"),
    [
        ("text_generation", {"short": SHORT}, "exact_match"),
        ("text_generation", {"long": LONG}, "bleu"),
        ("text_generation", {"long": LONG, "short": SHORT}, "exact_match"),
        ("text_regression", {"varied": VARIED}, "spearman"),
        ("text_regression", {"equal": EQUAL}, "mean_squared_error"),
        ("text_regression", {"varied": VARIED, "equal": EQUAL}, "mean_squared_error"),
    ],
)
def test_all_cells_have_one_metric_that_measures_their_data(
    tmp_path: Path, tiny_gpt2: Path, task: str, rows: dict[str, list[Any]], metric: str
) -> None:
    assert metrics(write_suite(tmp_path, tiny_gpt2, task, rows)) == {metric}


def test_a_named_metric_that_cannot_measure_is_refused(tmp_path: Path, tiny_gpt2: Path) -> None:
    path = write_suite(tmp_path, tiny_gpt2, "text_regression", {"equal": EQUAL}, '{"evaluation.metric": "spearman"}')
    with pytest.raises(ConfigError, match="`spearman` cannot choose an epoch"):
        metrics(path)
