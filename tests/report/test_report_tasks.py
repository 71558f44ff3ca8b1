"""Reports over other tasks than choosing one class: several labels, tags of words, numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import METHODS, fake_record

from peftlab.record import write_record
from peftlab.report.classes import class_scores
from peftlab.report.disagreement import find_disagreements
from peftlab.report.document import build_report, report_json
from peftlab.report.evidence import Basis
from peftlab.report.markdown import render_markdown
from peftlab.report.page import render_html

FULL, LORA, *_ = METHODS


def write(
    folder: Path, method: Any, metric: str, score: float, labels: list[Any], predictions: list[Any], seed: int = 0
) -> None:
    folder.mkdir()
    record = fake_record(method, seed, {"test": {metric: score}}, rows={"train": 10, "test": len(labels)}, labels=None)
    recipe = {**record.recipe, "evaluation": {"metric": metric}}
    write_record(record.model_copy(update={"recipe": recipe}), folder)
    columns = {"split": ["test"] * len(labels), "index": range(len(labels)), "label": labels, "prediction": predictions}
    pq.write_table(pa.table({**columns, "scores": [[0.5]] * len(labels)}), folder / "predictions.parquet")


def test_several_labels(tmp_path: Path) -> None:
    labels = [["a"], ["a", "b"], [], ["b"]] * 5
    write(tmp_path / "x", FULL, "accuracy", 0.75, labels, [["a"], ["b", "a"], [], ["a", "b"]] * 5)
    write(tmp_path / "y", LORA, "accuracy", 0.25, labels, [["a"], ["a"], ["b"], []] * 5)
    comparison = build_report([tmp_path]).comparisons[0]
    assert comparison.methods[0].interval.basis is Basis.EXAMPLES
    classes = class_scores(comparison, 9)
    assert classes is not None
    assert (classes.names, classes.support) == (["a", "b"], [10, 10])
    assert classes.methods[0].recall == pytest.approx([1, 1])
    assert classes.methods[0].precision == pytest.approx([2 / 3, 1])
    assert classes.methods[1].f1 == pytest.approx([1, 0])
    found = find_disagreements(comparison, most_methods=9, most_examples=9)
    assert found is not None
    assert found.examples[0].label in ("a, b", "b", "")


def test_tags_of_words(tmp_path: Path) -> None:
    labels = [["O", "B", "I"], ["O", "O", "O"]] * 4
    for seed, (method, score) in enumerate([(FULL, 0.9), (FULL, 0.8), (LORA, 0.7), (LORA, 0.5)]):
        wrong = [["O", "B", "O"], ["O", "O", "O"]] * 4
        write(tmp_path / str(seed), method, "f1", score, labels, labels if method is FULL else wrong, seed % 2)
    report = build_report([tmp_path])
    comparison = report.comparisons[0]
    assert comparison.methods[0].interval.basis is Basis.SEEDS
    classes = class_scores(comparison, 9)
    assert classes is not None
    recall = dict(zip(classes.names, classes.methods[1].recall, strict=True))
    assert recall == {"B": 1, "I": 0, "O": 1}
    assert "f1 has no values per example here" in render_html(report)
    assert "f1 by class" in render_markdown(report).lower()


def test_numbers_where_less_is_better(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.normal(size=200)
    for seed in (0, 1, 2):
        for method, noise in ((FULL, 0.1), (LORA, 0.5)):
            predictions = labels + generator.normal(size=200) * noise
            error = float(np.mean((predictions - labels) ** 2))
            folder = tmp_path / f"{method.name}{seed}"
            write(folder, method, "mean_squared_error", error, list(labels), list(predictions), seed)
    report = build_report([tmp_path])
    assert [method.name for method in report.comparisons[0].methods] == ["full", "lora"]
    assert report_json(report)["groups"] == [["full"], ["lora"]]
    assert class_scores(report.comparisons[0], 9) is None
    assert find_disagreements(report.comparisons[0], most_methods=9, most_examples=9) is None
    loss = report_json(build_report([tmp_path]))["comparisons"][0]["choice"]
    assert loss["methods"] == ["full"]
    assert "full is the best of 2 methods" in render_html(report)
