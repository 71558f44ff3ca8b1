"""Whether a record holds: identical on the same machine, inside its interval elsewhere."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from peftlab.record import DataSummary, RunRecord, write_record
from peftlab.reproduce import compare_records, reproduce, score_intervals

HERE = {"python": "3.11", "versions": {"torch": "2.13.0"}, "threads": 2, "commit": "abc", "uncommitted_changes": False}
ELSEWHERE = {**HERE, "versions": {"torch": "2.14.0"}}
INTERVALS = {("test", "accuracy"): (0.74, 0.80)}


def record(accuracy: float, environment: dict[str, object], **changes: object) -> RunRecord:
    values = {
        "name": "tiny",
        "status": "success",
        "recipe": {},
        "scores": {"test": {"accuracy": accuracy, "auroc": accuracy}},
        "data": DataSummary(fingerprint="f", rows={"test": 100}),
        "environment": environment,
        "started_at": "2026-01-01T00:00:00+00:00",
        "seconds": 10.0,
    }
    return RunRecord.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("environment", "accuracy", "verdict", "agrees"),
    [
        (HERE, 0.77, "identical", True),
        (HERE, 0.7701, "differs", False),
        (ELSEWHERE, 0.77, "identical", True),
        (ELSEWHERE, 0.75, "inside", True),
        (ELSEWHERE, 0.73, "outside", False),
    ],
)
def test_the_verdict_on_a_score(environment: dict[str, object], accuracy: float, verdict: str, agrees: bool) -> None:
    result = compare_records(record(0.77, HERE), record(accuracy, environment), intervals=INTERVALS, folder=Path())
    verdicts = {figure.name: figure.verdict for figure in result.figures}
    assert verdicts["test accuracy"] == verdict
    assert result.agrees == agrees
    assert result.same_environment == (environment is HERE)
    assert result.differences == ([] if environment is HERE else ["versions.torch"])


def test_a_metric_without_an_interval_is_not_judged_elsewhere() -> None:
    result = compare_records(record(0.77, HERE), record(0.76, ELSEWHERE), intervals=INTERVALS, folder=Path())
    assert {figure.name: figure.verdict for figure in result.figures}["test auroc"] == "unjudged"


def test_other_data_never_agrees() -> None:
    other = record(0.77, ELSEWHERE, data=DataSummary(fingerprint="g", rows={"test": 100}))
    result = compare_records(record(0.77, HERE), other, intervals=INTERVALS, folder=Path())
    assert not result.agrees


def test_uncommitted_changes_are_another_environment() -> None:
    changed = {**HERE, "uncommitted_changes": True}
    result = compare_records(record(0.77, HERE), record(0.76, changed), intervals=INTERVALS, folder=Path())
    assert result.differences == ["uncommitted changes"]


def test_a_scores_interval_is_that_of_its_test_examples(tmp_path: Path) -> None:
    right, rows = 154, 200
    predictions = ["a"] * right + ["b"] * (rows - right)
    columns = {"split": ["test"] * rows, "index": range(rows), "label": ["a"] * rows, "prediction": predictions}
    pq.write_table(pa.table({key: list(value) for key, value in columns.items()}), tmp_path / "predictions.parquet")
    low, high = score_intervals(tmp_path, record(right / rows, HERE))["test", "accuracy"]
    wilson = stats.binomtest(right, rows).proportion_ci(method="wilson")
    assert low == pytest.approx(wilson.low, abs=0.01)
    assert high == pytest.approx(wilson.high, abs=0.01)


def test_a_failed_run_has_nothing_to_agree_with(tmp_path: Path) -> None:
    write_record(record(0.77, HERE, status="diverged"), tmp_path)
    with pytest.raises(Exception, match="ended as `diverged`") as caught:
        reproduce(tmp_path)
    assert getattr(caught.value, "exit_code", None) == 2
