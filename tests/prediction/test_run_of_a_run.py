"""A run that started where another ended is used like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from peftlab.data.streaming import stream_rows
from peftlab.export.export import export_run
from peftlab.interfaces import Silent
from peftlab.prediction.load import load_tuned
from peftlab.prediction.predict import predict_rows


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
