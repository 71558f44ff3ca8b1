"""A run that started where another ended is used like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from peftlab.core.reporter import Silent
from peftlab.data.streaming import stream_rows
from peftlab.estimate.data import look_at_data
from peftlab.inference.export.export import export_run
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.predict import predict_rows
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import load_recipe


def test_it_predicts_and_is_exported(
    tiny_run: Callable[..., Path], reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    run = tiny_run(base=tiny_run(), seed=3, steps=20)
    lines = reviews.read_text().splitlines()[1:]
    rows = [row for row in pq.read_table(run / "predictions.parquet").to_pylist() if row["split"] == "test"]
    texts = [{"text": lines[row["index"]].rpartition(",")[0]} for row in rows]
    tuned = load_tuned(run, offline=True)
    answers = predict_rows(tuned, stream_rows("texts", texts, keep=["text"]), Silent())
    predictions = [answer["prediction"] for answer in answers]
    assert predictions == [row["prediction"] for row in rows]
    check = export_run(run, "merged", tmp_path / "out", offline=True, reporter=Silent()).check
    assert check.equal_predictions == 1.0


def test_its_memory_is_estimated_from_the_data_without_merging_its_base(
    tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    first = tiny_run()
    recipe, document = load_recipe(first / "recipe.yaml", [f"model.path={first}"])
    checked, batch = look_at_data(check_recipe(recipe, document, offline=True))
    assert batch is not None
    assert batch.length < recipe.task.max_length
    assert checked.facts.model_type == "bert"
    assert not (tmp_path / "cache").exists()
