"""Label curves in a report: means, pairs with chance, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab.core.record import read_record, write_record
from peftlab.report.document import build_report, report_json
from peftlab.report.markdown import render_markdown
from peftlab.report.page import render_html
from peftlab.statistics.intervals import seeds_interval
from tests.report.fakes import METHODS, fake_record

SCORES = {
    "chance": {20: [0.50, 0.52, 0.55], 50: [0.60, 0.62, 0.63]},
    "margin": {20: [0.50, 0.52, 0.55], 50: [0.64, 0.66, 0.675]},
    "core": {20: [0.50, 0.52, 0.55], 50: [0.58, 0.66, 0.60]},
}
"""By method and number of labels, of the seeds 0, 1 and 2."""


Scores = dict[str, dict[int, list[float]]]


def write_suite(
    folder: Path, *, strategies: dict[str, str], metric: str = "accuracy", scores_of: Scores = SCORES
) -> None:
    for name, by_labels in scores_of.items():
        for labels, scores in by_labels.items():
            for seed, score in enumerate(scores):
                record = fake_record(METHODS[1], seed, {"test": {metric: score}}, name=f"{name}--labels-{labels}")
                recipe = json.loads(json.dumps(record.recipe)) | {"evaluation": {"metric": metric}}
                run = folder / "cells" / f"{name}--labels-{labels}--seed{seed}"
                run.mkdir(parents=True)
                write_record(record.model_copy(update={"recipe": recipe}), run)
    suite = {
        "name": "curve",
        "recipe": "lora.yaml",
        "methods": [{"type": "lora", "name": name, "select": {"type": strategies[name]}} for name in scores_of],
        "labels": [20, 50],
        "seeds": [0, 1, 2],
        "tuning": None,
    }
    (folder / "suite.yaml").write_text(json.dumps(suite))


def test_differences_to_chance_are_paired_over_the_seeds(tmp_path: Path) -> None:
    write_suite(tmp_path, strategies={"chance": "random", "margin": "margin", "core": "core_set"})
    report = build_report([tmp_path])
    (found,) = report_json(report)["label_curves"]
    assert (found["labels"], found["metric"], found["split"], found["chance"]) == (
        [20, 50],
        "accuracy",
        "test",
        "chance",
    )
    assert list(found["methods"]) == ["margin", "chance", "core"]
    expected = seeds_interval([0.04, 0.04, 0.045])
    told = found["methods"]["margin"]["to_chance"]["50"]
    assert told == pytest.approx({"mean": expected.mean, "low": expected.low, "high": expected.high})
    assert found["methods"]["margin"]["to_chance"]["20"] == {"mean": 0.0, "low": None, "high": None}
    assert found["methods"]["chance"]["to_chance"] == {}
    words = "With 50 labels margin has the best mean accuracy, 65.8 % ("
    better = "There margin is better than chance (95 %, Bonferroni over 2 comparisons)."
    for text in (render_html(report).replace("\u00a0", " "), render_markdown(report).replace("\u00a0", " ")):
        assert words in text
        assert better in text
        assert "Score by the number of labels" in text


def test_equal_differences_are_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any spread of the pairs, nothing says how far other seeds would lie from them."""
    monkeypatch.setitem(SCORES, "margin", {20: [0.5, 0.52, 0.55], 50: [each + 0.01 for each in SCORES["chance"][50]]})
    write_suite(tmp_path, strategies={"chance": "random", "margin": "margin", "core": "core_set"})
    report = build_report([tmp_path])
    told = report_json(report)["label_curves"][0]["methods"]["margin"]["to_chance"]["50"]
    assert told == pytest.approx({"mean": 0.01, "low": None, "high": None})
    assert "no strategy is told apart from chance as better" in render_html(report)


def test_without_a_method_of_chance_nothing_is_compared_with_it(tmp_path: Path) -> None:
    write_suite(tmp_path, strategies={"chance": "badge", "margin": "margin", "core": "core_set"})
    report = build_report([tmp_path])
    (found,) = report_json(report)["label_curves"]
    assert found["chance"] is None
    assert all(not method["to_chance"] for method in found["methods"].values())
    assert "better than chance" not in render_html(report)


def test_a_metric_of_another_version_draws_no_curve(tmp_path: Path) -> None:
    write_suite(tmp_path, strategies={"chance": "random", "margin": "margin", "core": "core_set"}, metric="of_later")
    assert report_json(build_report([tmp_path]))["label_curves"] == []


def test_a_run_without_the_metric_is_left_out_and_told(tmp_path: Path) -> None:
    """One such run, as of a metric that is not defined for its answers, took all curves away without a word."""
    write_suite(tmp_path, strategies={"chance": "random", "margin": "margin", "core": "core_set"})
    path = tmp_path / "cells" / "core--labels-50--seed1"
    write_record(read_record(path).model_copy(update={"scores": {"test": {"macro_f1": 0.5}}}), path)
    report = build_report([tmp_path])
    (found,) = report_json(report)["label_curves"]
    assert found["methods"]["core"]["scores"]["50"] == {0: 0.58, 2: 0.6}
    assert found["missing"] == ["core--labels-50, seed 1, has no accuracy on the test split"]
    for text in (render_html(report), render_markdown(report)):
        assert "seed 1, has no accuracy on the test split" in text


def test_an_error_that_is_lower_than_by_chance_is_better(tmp_path: Path) -> None:
    write_suite(
        tmp_path, strategies={"chance": "random", "margin": "margin", "core": "core_set"}, metric="mean_absolute_error"
    )
    page = render_html(build_report([tmp_path]))
    assert "With 50 labels core has the best mean mean_absolute_error" in page
    assert "no strategy is told apart from chance as better" in page


def test_no_difference_lies_beyond_what_shares_can_differ_by(tmp_path: Path) -> None:
    far = {"chance": {20: [0.5, 0.5], 50: [0.1, 0.9]}, "margin": {20: [0.5, 0.5], 50: [0.9, 0.2]}}
    write_suite(tmp_path, strategies={"chance": "random", "margin": "margin"}, scores_of=far)
    (found,) = report_json(build_report([tmp_path]))["label_curves"]
    told = found["methods"]["margin"]["to_chance"]["50"]
    assert (told["low"], told["high"]) == (-1.0, 1.0)
