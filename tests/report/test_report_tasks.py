"""Reports over other tasks than choosing one class: several labels, tags of words, numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import METHODS, fake_record

from peftlab.core.record import write_record
from peftlab.report.classes import class_scores
from peftlab.report.disagreement import find_disagreements
from peftlab.report.document import build_report, report_json
from peftlab.report.evidence import Basis
from peftlab.report.markdown import render_markdown
from peftlab.report.page import render_html

FULL, LORA, *_ = METHODS


def write(
    folder: Path,
    method: Any,
    metric: str,
    score: float,
    labels: list[Any],
    predictions: list[Any],
    seed: int = 0,
    **task: Any,
) -> None:
    folder.mkdir()
    each = [name for value in labels for name in (value if isinstance(value, list) else [value])]
    names = sorted({name for name in each if isinstance(name, str)}) or None
    record = fake_record(method, seed, {"test": {metric: score}}, rows={"train": 10, "test": len(labels)}, labels=names)
    own = {**record.recipe["task"], **task}
    recipe = {**record.recipe, "task": own, "evaluation": {"metric": metric}}
    write_record(record.model_copy(update={"recipe": recipe}), folder)
    columns = {"split": ["test"] * len(labels), "index": range(len(labels)), "label": labels, "prediction": predictions}
    pq.write_table(pa.table({**columns, "scores": [[0.5]] * len(labels)}), folder / "predictions.parquet")


def test_several_labels(tmp_path: Path) -> None:
    labels = [["a"], ["a", "b"], [], ["b"]] * 5
    write(tmp_path / "x", FULL, "accuracy", 0.75, labels, [["a"], ["b", "a"], [], ["a", "b"]] * 5, multi_label=True)
    write(tmp_path / "y", LORA, "accuracy", 0.25, labels, [["a"], ["a"], ["b"], []] * 5, multi_label=True)
    comparison = build_report([tmp_path]).comparisons[0]
    assert comparison.methods[0].interval.basis is Basis.EXAMPLES
    classes = class_scores(comparison)
    assert classes is not None
    assert (classes.names, classes.support) == (["a", "b"], [10, 10])
    assert classes.methods[0].recall == pytest.approx([1, 1])
    assert classes.methods[0].precision == pytest.approx([2 / 3, 1])
    assert classes.methods[1].f1 == pytest.approx([1, 0])
    found = find_disagreements(comparison)
    assert found is not None
    assert found.examples[0].label in ("a, b", "b", "")


def test_ranks_are_no_classes(tmp_path: Path) -> None:
    """Of a picture and its text: the place at which each was found for the other."""
    labels = [[1.0, 1.0]] * 8
    write(tmp_path / "x", FULL, "two_way_mrr", 0.75, labels, [[1.0, 2.0]] * 4 + [[1.0, 1.0]] * 4)
    write(tmp_path / "y", LORA, "two_way_mrr", 0.25, labels, [[31.0, 4.0]] * 8)
    report = build_report([tmp_path])
    assert class_scores(report.comparisons[0]) is None
    page = render_html(report)
    assert "F1 by class" not in page
    assert "31, 4" in page


def test_tags_of_words(tmp_path: Path) -> None:
    labels = [["O", "B", "I"], ["O", "O", "O"]] * 4
    for seed, (method, score) in enumerate([(FULL, 0.9), (FULL, 0.8), (LORA, 0.7), (LORA, 0.5)]):
        wrong = [["O", "B", "O"], ["O", "O", "O"]] * 4
        write(tmp_path / str(seed), method, "f1", score, labels, labels if method is FULL else wrong, seed % 2)
    report = build_report([tmp_path])
    comparison = report.comparisons[0]
    assert comparison.methods[0].interval.basis is Basis.SEEDS
    classes = class_scores(comparison)
    assert classes is not None
    recall = dict(zip(classes.names, classes.methods[1].recall, strict=True))
    assert recall == {"B": 1, "I": 0, "O": 1}
    assert "f1 has no values per example here" in render_html(report)
    assert "f1 by class" in render_markdown(report).lower()


def collapsed(folder: Path) -> list[str]:
    comparisons = report_json(build_report([folder]))["comparisons"]
    return [text for comparison in comparisons for text in comparison["notices"] if "collapsed" in text]


def test_one_tag_for_every_word_is_named(tmp_path: Path) -> None:
    """The texts differ in length, so that their answers differ as lists."""
    labels = [["O", "B", "I"], ["O", "O"], ["B"], ["O", "O", "O", "O"]] * 3
    nothing = [["O"] * len(tags) for tags in labels]
    write(tmp_path / "0", FULL, "f1", 0.9, labels, labels, 0)
    write(tmp_path / "1", LORA, "f1", 0.0, labels, nothing, 0)
    (text,) = collapsed(tmp_path)
    assert "lora seed 0 gave everything the same answer" in text
    assert "full" not in text


@pytest.mark.parametrize(("spread", "named"), [(0.0, True), (1e-6, True), (0.2, False)])
def test_one_number_for_every_text_is_named(tmp_path: Path, spread: float, named: bool) -> None:
    generator = np.random.default_rng(0)
    labels = 5e5 + 1e5 * generator.normal(size=50)
    constant = 5e5 + 1e5 * spread * generator.normal(size=50)
    for name, method, answers in (("0", FULL, labels + 1e4), ("1", LORA, constant)):
        error = float(np.mean((answers - labels) ** 2))
        write(tmp_path / name, method, "mean_squared_error", error, list(labels), list(answers), 0)
    assert [text.split(" gave")[0] for text in collapsed(tmp_path)] == ["Training has collapsed: lora seed 0"] * named


def test_the_same_labels_for_every_text_are_named(tmp_path: Path) -> None:
    labels = [["a"], ["a", "b"], [], ["b"]] * 5
    write(tmp_path / "0", FULL, "micro_f1", 0.9, labels, [["a"], ["a"], [], ["a"]] * 5, 0)
    write(tmp_path / "1", LORA, "micro_f1", 0.0, labels, [[]] * 20, 0)
    assert [text.split(" gave")[0] for text in collapsed(tmp_path)] == ["Training has collapsed: lora seed 0"]


def test_labels_that_are_all_one_say_nothing_of_a_run(tmp_path: Path) -> None:
    write(tmp_path / "0", FULL, "f1", 1.0, [["O"], ["O", "O"]] * 5, [["O"], ["O", "O"]] * 5, 0)
    write(tmp_path / "1", LORA, "mean_squared_error", 0.0, [2.0] * 10, [2.0] * 10, 0)
    assert collapsed(tmp_path) == []


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
    assert class_scores(report.comparisons[0]) is None
    assert find_disagreements(report.comparisons[0]) is None
    loss = report_json(build_report([tmp_path]))["comparisons"][0]["choice"]
    assert loss["methods"] == ["full"]
    assert "full is the best of 2 methods" in render_html(report)


def test_runs_of_machines(tmp_path: Path) -> None:
    """Runs are the units, whatever the steps are written like; survival is drawn by the length of the tape."""
    for number, (method, wrong_from) in enumerate([(FULL, 9), (FULL, 9), (LORA, 2), (LORA, 3)]):
        lengths, steps = [2, 3, 4, 5] * 5, 4
        columns: dict[str, list[Any]] = {"split": [], "index": [], "label": [], "prediction": [], "scores": []}
        for split in ("test", "test_longer_tapes"):
            for run, length in enumerate(lengths):
                for step in range(steps):
                    columns["split"].append(split)
                    columns["index"].append(run)
                    columns["label"].append(f"@{number} of {method.name}")  # as with other addresses, of other models
                    columns["prediction"].append("")
                    cells = length if split == "test" else length + 4
                    columns["scores"].append([float(run), float(step), float(cells), float(step < wrong_from)])
        (tmp_path / str(number)).mkdir()
        survived = min(steps, wrong_from)
        record = fake_record(
            method, number % 2, {"test": {"steps_survived": survived}}, rows={"train": 10, "test": 20}, labels=None
        )
        recipe = {**record.recipe, "evaluation": {"metric": "steps_survived"}}
        recipe["task"] = {"type": "turing_machine", "tape_length": 5}
        recipe["model"] = {"path": "", "from_config": {"model_type": "gpt2"}}
        recipe["data"] = None
        write_record(record.model_copy(update={"recipe": recipe}), tmp_path / str(number))
        pq.write_table(pa.table(columns), tmp_path / str(number) / "predictions.parquet")
    report = build_report([tmp_path])
    (comparison,) = report.comparisons
    assert comparison.methods[0].per_example is not None
    assert comparison.methods[0].per_example.shape == (2, 20)
    assert [method.mean for method in comparison.methods] == [4, 2.5]
    (table,) = [lines for lines in render_markdown(report).split("\n\n") if "all steps" in lines]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert rows[0][1:] == ["2", "3", "4", "5", "6", "7", "8", "9"]
    assert {row[0]: set(row[1:]) for row in rows[2:]} == {"full": {"4.00"}, "lora": {"2.50"}, "all steps": {"4.00"}}
    page = render_html(report)
    assert "Steps survived × tape length" in page
    assert "The tapes in training had 5 cells at most" in page
    assert "a new gpt2" in page
    assert "F1 by class" not in page
    assert collapsed(tmp_path) == []


def test_a_tag_at_another_word_is_wrong_even_where_no_sentence_has_a_tag_twice(tmp_path: Path) -> None:
    write(tmp_path / "x", FULL, "f1", 0.5, [["O", "B"]] * 4, [["B", "O"]] * 4, type="token_classification")
    classes = class_scores(build_report([tmp_path]).comparisons[0])
    assert classes is not None
    assert classes.methods[0].recall == pytest.approx([0, 0])
