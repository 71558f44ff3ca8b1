"""`peftlab.load`: finished runs and exports in the hands of a program."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import peftlab
from peftlab.core.errors import RunFailedError, UserError
from peftlab.core.reporter import Silent
from peftlab.inference.export.export import export_run


@pytest.fixture(scope="module")
def rows(reviews: Path) -> list[dict[str, str]]:
    with reviews.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def classifier(tiny_run: Callable[..., Path]) -> peftlab.LoadedRun:
    return peftlab.load(tiny_run())


@pytest.fixture(scope="module")
def writer(tiny_run: Callable[..., Path]) -> peftlab.LoadedRun:
    return peftlab.load(tiny_run(base="gpt2", task="{type: causal_lm, text: text, max_length: 32}", steps=2))


def test_it_answers_as_the_run_did(classifier: peftlab.LoadedRun, rows: list[dict[str, str]]) -> None:
    folder = classifier.tuned.folder
    table = [row for row in pq.read_table(folder / "predictions.parquet").to_pylist() if row["split"] == "test"]
    answers = classifier.predict([rows[row["index"]]["text"] for row in table])
    assert [answer["index"] for answer in answers] == list(range(len(table)))
    assert [answer["text"] for answer in answers] == [rows[row["index"]]["text"] for row in table]
    assert [answer["prediction"] for answer in answers] == [row["prediction"] for row in table]
    evaluation = classifier.evaluate([rows[row["index"]] for row in table])
    assert evaluation.scores == pytest.approx(classifier.record.scores["test"], abs=1e-6)


def test_the_temperature_puts_no_equal_scores_apart(classifier: peftlab.LoadedRun) -> None:
    """In half precision many texts have one score; whatever orders them, such as AUROC, must not see a difference."""
    grid = torch.arange(1, 65) / 128
    logits = torch.stack([grid, grid + (torch.arange(64) % 4) / 16], dim=1)
    batch = {"labels": torch.arange(64) // 4 % 2}

    def scores(temperature: float) -> dict[str, float]:
        tuned = replace(classifier.tuned, temperature=temperature)
        scorer = tuned.recipe.scorer(tuned.labels)
        scorer.add(tuned.read_logits(logits, batch))
        return scorer.compute()

    assert scores(0.40790758165423685) == scores(1.0) == scores(2.2756875217401933)


def test_what_is_no_number_is_no_answer(classifier: peftlab.LoadedRun) -> None:
    """The greatest of a row with NaN is a class like any other; half precision that overflows leaves such rows."""
    logits = torch.tensor([[0.5, 1.0], [float("nan"), 1.0]])
    with pytest.raises(RunFailedError, match="no number"):
        classifier.tuned.read_logits(logits, {"labels": torch.zeros(2, dtype=torch.long)})


def test_what_it_is_made_of(classifier: peftlab.LoadedRun) -> None:
    assert isinstance(classifier.model, nn.Module)
    assert not classifier.model.training
    assert classifier.tokenizer("good")["input_ids"]
    assert classifier.recipe.task.registered_name == "text_classification"
    assert classifier.record is not None
    assert classifier.record.status == "success"
    assert classifier.labels == ("bad", "good")
    assert "text_classification" in repr(classifier)


def test_rows_may_come_in_any_table(
    classifier: peftlab.LoadedRun, rows: list[dict[str, str]], reviews: Path, tmp_path: Path
) -> None:
    some = rows[:5]
    pd.DataFrame(some).to_csv(tmp_path / "some.csv", index=False)
    tables: list[Any] = [some, pd.DataFrame(some), datasets.Dataset.from_list(some), tmp_path / "some.csv"]
    answers = [classifier.predict(table) for table in [*tables, [row["text"] for row in some]]]
    assert all(answer == answers[0] for answer in answers)
    scores = [classifier.evaluate(table).scores for table in [*tables, str(tmp_path / "some.csv")]]
    assert all(score == scores[0] for score in scores)
    assert classifier.predict([]) == []


def test_an_export_answers_alike(classifier: peftlab.LoadedRun, tmp_path: Path) -> None:
    export_run(classifier.tuned.folder, "merged", tmp_path / "merged", offline=True, reporter=Silent())
    merged = peftlab.load(tmp_path / "merged")
    texts = ["a good film", "an awful day"]
    assert [answer["prediction"] for answer in merged.predict(texts)] == [
        answer["prediction"] for answer in classifier.predict(texts)
    ]
    assert merged.record is None


def test_a_language_model_writes(writer: peftlab.LoadedRun) -> None:
    answers = writer.predict(["the film was", "we saw"], max_new_tokens=3)
    assert [answer["text"] for answer in answers] == ["the film was", "we saw"]
    assert all(isinstance(answer["generated"], str) for answer in answers)
    assert set(writer.evaluate([{"text": "the film was good"}] * 3).scores) >= {"perplexity"}


def test_pairs_are_tuples(tiny_run: Callable[..., Path], rows: list[dict[str, str]], tmp_path: Path) -> None:
    data = tmp_path / "pairs.csv"
    pd.DataFrame({"a": [row["text"] for row in rows], "b": "it was", "label": [row["label"] for row in rows]}).to_csv(
        data, index=False
    )
    task = "{type: text_pair_classification, text: [a, b], max_length: 40}"
    loaded = peftlab.load(tiny_run(task=task, data=data, steps=2))
    by_tuple = loaded.predict([("a good film", "it was"), ("a bad day", "it was")])
    assert by_tuple == loaded.predict(["a good film\tit was", "a bad day\tit was"])
    assert by_tuple == loaded.predict([{"a": "a good film", "b": "it was"}, {"a": "a bad day", "b": "it was"}])
    with pytest.raises(UserError, match=r"inputs.0: a tuple \(a, b\) is needed, not \('x',\)"):
        loaded.predict([("x",)])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("a good film", r"inputs: a list is needed, not a text\n  Write predict\(\[text\]\)"),
        (["a good film", 3], r"inputs.1: a text is needed, not 3"),
        (["a good film", {"text": "x"}], r"inputs.1: a text is needed"),
        (3, "inputs: texts or rows are needed, not 3"),
        ([{"txt": "a"}], "list of dicts: there is no column `text`"),
        ([{"text": "a"}, {"text": None}], r"list of dicts, row 2: .* is missing or empty\n  Fill these rows"),
        (pd.Series(["a"]), r"texts or rows are needed, not [\s\S]*\n  Make it a list: list\(…\)"),
        ({"train": [{"text": "a"}]}, "inputs: texts or rows are needed"),
        (Path("nowhere.csv"), "no such file"),
        (datasets.DatasetDict(a=datasets.Dataset.from_list([{"text": "x"}]), b=datasets.Dataset.from_list([{"text": "x"}])),
         "holds several splits: a, b"),
    ],
)  # fmt: skip
def test_what_it_cannot_answer_is_said(classifier: peftlab.LoadedRun, inputs: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        classifier.predict(inputs)


def test_a_run_loaded_offline_is_evaluated_offline(
    tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("peftlab.inference.loaded.evaluate_rows", lambda *_, offline: asked.append(offline))
    for offline in (True, False):
        peftlab.load(tiny_run(), offline=offline).evaluate([{"text": "good film", "label": "pos"}])
    assert asked == [True, False]


def test_other_mistakes_are_said(classifier: peftlab.LoadedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_new_tokens: a run of text_classification writes no text"):
        classifier.predict(["x"], max_new_tokens=3)
    with pytest.raises(UserError, match="there is no column `label`"):
        classifier.evaluate([{"text": "a good film"}])
    with pytest.raises(UserError, match="no such folder"):
        peftlab.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="the folder of a run is needed, not 3"):
        peftlab.load(3)  # type: ignore[arg-type]
