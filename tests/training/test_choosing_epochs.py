"""Which epoch is kept: by a metric that can tell epochs apart, and among equal scores by the validation loss."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from peftlab.core.errors import ConfigError
from peftlab.core.record import RunRecord
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe
from peftlab.tasks._scorers import RegressionScorer
from peftlab.tasks._text_metrics import are_short, reachable
from peftlab.tasks.language.conversations import RESPONSES
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_generation import TextGeneration
from peftlab.tasks.text_regression import TextRegression
from peftlab.tasks.token_classification import TokenClassification

pytestmark = pytest.mark.slow

RECIPE = """\
model: {{path: {model}}}
task: {task}
data: {{source: {{train: {folder}/train.jsonl, validation: {folder}/validation.jsonl}}, deduplicate: false}}
method: {{type: lora, rank: 4}}
training: {{epochs: 5, batch_size: 8, learning_rate: 4e-3}}
measure: false
"""


def write_recipe(folder: Path, model: Path, task: str, train: list[dict[str, Any]], validation: list[Any]) -> Path:
    for name, rows in (("train", train), ("validation", validation)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE.format(model=model, task=task, folder=folder))
    return folder / "recipe.yaml"


def run(recipe: Path, *overrides: str) -> tuple[RunRecord, list[tuple[int, dict[str, float]]]]:
    loaded, document = load_recipe(recipe, overrides)
    result = run_recipe(loaded, document, output_dir=recipe.parent / "run")
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    return result.record, [(line["step"], line["validation"]) for line in lines if "validation" in line]


CLASSES = [{"text": f"{word} film {end}", "label": word} for word in ("good", "bad") for end in "abcdefgh"]
NUMBERS = [{**row, "label": 1.0 if row["label"] == "good" else 3.0} for row in CLASSES]


def test_of_equal_scores_that_with_the_least_loss_is_kept(tmp_path: Path, tiny_bert: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_bert, "{type: text_classification, max_length: 32}", CLASSES, CLASSES[4:12])
    record, evaluations = run(recipe, "training.epochs=8")
    best = max(scores["accuracy"] for _, scores in evaluations)
    tied = [(scores["loss"], step) for step, scores in evaluations if scores["accuracy"] == best]
    assert len(tied) > 1
    assert record.best_step == min(tied)[1]
    assert record.tied_steps == [step for _, step in tied]


def test_where_no_scores_are_equal_nothing_is_said_of_it(tmp_path: Path, tiny_bert: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_bert, "{type: text_regression, max_length: 32}", NUMBERS, NUMBERS[4:12])
    record, evaluations = run(recipe, "evaluation.metric=mean_squared_error")
    assert record.best_step == min((scores["mean_squared_error"], step) for step, scores in evaluations)[1]
    assert record.tied_steps == []


@pytest.mark.parametrize(
    ("undefined", "told", "status"),
    [(3, {}, "success"), (3, {"spearman": math.nan}, "success"), (5, {}, "diverged")],
    ids=["left out", "no number", "never defined"],
)
def test_a_metric_that_is_not_defined_at_first_is_worse_than_any_score(
    tmp_path: Path,
    tiny_bert: Path,
    monkeypatch: pytest.MonkeyPatch,
    undefined: int,
    told: dict[str, float],
    status: str,
) -> None:
    computed = RegressionScorer.compute
    calls = iter(range(100))

    def compute(scorer: RegressionScorer) -> dict[str, float]:
        scores = computed(scorer)
        if next(calls) >= undefined:
            return scores
        return {k: v for k, v in scores.items() if k != "spearman"} | told

    monkeypatch.setattr(RegressionScorer, "compute", compute)
    recipe = write_recipe(tmp_path, tiny_bert, "{type: text_regression, max_length: 32}", NUMBERS, NUMBERS[4:12])
    record, evaluations = run(recipe)
    assert record.status == status
    if status == "success":
        assert record.best_step in [step for step, _ in evaluations[undefined:]]
    else:
        assert "not defined" in str(record.error)


def split(**columns: list[Any]) -> Split:
    return Split("validation", range(len(next(iter(columns.values())))), columns, "rows.csv")


ONE_CLASS = split(text=["a", "b"], label=["x", "x"])
TWO_CLASSES = split(text=["a", "b"], label=["x", "y"])
OUTSIDE = split(tokens=[["a"], ["b"]], tags=[["O"], ["O"]])
PLAIN = TokenClassification().fitted({"tag_scheme": "plain"})
MULTI = TextClassification(multi_label=True)
EQUAL = split(text=["a", "b"], label=[2, "2.0"])


@pytest.mark.parametrize(
    ("task", "rows", "labels", "bad"),
    [
        (TextClassification(), ONE_CLASS, ("x", "y"), {"auroc", "matthews", "micro_f1"}),
        (TextClassification(), TWO_CLASSES, ("x", "y"), {"micro_f1"}),
        (TextClassification(), TWO_CLASSES, ("x", "y", "z"), {"auroc", "micro_f1"}),
        (MULTI, split(text=["a", "b"], label=[[], []]), ("x", "y"),
         {"auroc", "macro_f1", "weighted_f1", "micro_f1", "matthews"}),
        (MULTI, split(text=["a", "b"], label=[["x"], ["x"]]), ("x", "y"), {"auroc", "matthews"}),
        (MULTI, split(text=["a", "b"], label=[["x"], []]), ("x", "y"), {"matthews"}),
        (TokenClassification(), OUTSIDE, ("O", "B-X"), {"f1", "precision", "recall"}),
        (PLAIN, split(tokens=[["a"]], tags=[["N"]]), ("N", "V"), {"f1", "precision", "recall"}),
        (TokenClassification(), split(tokens=[["a"]], tags=[["B-X"]]), ("O", "B-X"), set()),
        (TextRegression(), EQUAL, (), {"spearman", "pearson"}),
        (TextRegression(), split(text=["a", "b"], label=[2, 3]), (), set()),
        (TextGeneration(), split(**{RESPONSES: [["pale blue"], ["red"]]}), (), {"bleu"}),
        (TextGeneration(), split(**{RESPONSES: [["yes"], ["no"]]}), (), {"bleu", "rouge_2", "distinct_2"}),
        (TextGeneration(), split(**{RESPONSES: [["好的"], ["不"]]}), (), {"bleu"}),  # a character is a word
        (TextGeneration(), split(**{RESPONSES: [["yes"], ["no it is not so"]]}), (), set()),
    ],
)  # fmt: skip
def test_metrics_that_cannot_measure_a_split(task: Task, rows: Split, labels: tuple[str, ...], bad: set[str]) -> None:
    assert {name for name in task.metrics if task.why_not_measured(name, rows, labels)} == bad


def test_a_named_metric_that_cannot_measure_is_refused_and_a_default_one_replaced(
    tmp_path: Path, tiny_bert: Path
) -> None:
    recipe = write_recipe(tmp_path, tiny_bert, "{type: text_regression, max_length: 32}", NUMBERS, NUMBERS[:8])
    loaded, document = load_recipe(recipe)
    assert check_recipe(loaded, document, offline=True).recipe.evaluation.metric == "mean_squared_error"
    loaded, document = load_recipe(recipe, ["evaluation.metric=pearson"])
    with pytest.raises(ConfigError, match=r"evaluation\.metric: the metric `pearson` cannot.*\n.*mean_absolute_error"):
        check_recipe(loaded, document, offline=True)


def test_the_default_for_short_answers_is_exact_match() -> None:
    task = TextGeneration()
    assert (
        task.default_metric(split(**{RESPONSES: [["pale blue"], ["red"], ["a rather long answer"]]})) == "exact_match"
    )
    assert task.default_metric(split(**{RESPONSES: [["it is a pale blue"], ["it, too, is red"], ["no"]]})) == "bleu"
    assert task.default_metric(None) == "bleu"
    assert are_short([["yes!"]])
    assert not are_short([["well, yes!"]])


def test_what_is_rare_among_many_texts_is_still_found() -> None:
    assert reachable("bleu", [["yes"]] * 500 + [["it is as it is"]]) > 0
    assert reachable("bleu", [["yes"]] * 500) == 0
