"""Every metric says which direction is better; no interval goes beyond the values that it can take."""

import math
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftlab.core.errors import ConfigError
from peftlab.core.metric import METRICS, Metric, possible_difference, signed, within_range
from peftlab.core.task import TASKS, Prediction
from peftlab.measurement.example_intervals import example_intervals, intervals_of_file
from peftlab.run.reproduce.pairing import Answers, Difference, PairedAnswers
from peftlab.tasks._scorers import ClassScorer


@pytest.mark.parametrize("task", list(TASKS))
def test_every_metric_of_a_task_is_registered(task: str) -> None:
    assert set(TASKS[task].metrics) <= set(METRICS)


def test_directions_ranges_and_units() -> None:
    lower = {name for name in METRICS if not METRICS[name].higher_is_better}
    errors = {"mean_squared_error", "mean_absolute_error"}
    assert lower == errors | {
        "loss",
        "base_response_tokens",
        "dispreferred_log_ratio",
        "kl",
        "perplexity",
        "perplexity_low",
        "perplexity_high",
        "rank_error",
        "response_tokens",
    }
    assert within_range("mean_squared_error", -3.0, 1e9) == (0.0, 1e9)
    assert METRICS["mean_squared_error"].range[1] == math.inf
    assert possible_difference("matthews") == 2
    assert (signed("loss", 3.0), signed("f1", 3.0)) == (-3.0, 3.0)
    assert {name for name in METRICS if METRICS[name].unit == "target"} == errors


@pytest.mark.parametrize("metric", ["macro_f1", "weighted_f1", "matthews"])
def test_three_examples_do_not_lead_beyond_the_metric(metric: str) -> None:
    found = example_intervals([metric], ["bad", "good", "fine"], ["bad", "good", "good"], where="").by_metric[metric]
    assert found is not None
    low, high = found
    least, most = METRICS[metric].range
    assert least <= low < high <= most


@pytest.mark.parametrize(("rare", "metric", "told"), [(3, "macro_f1", 1), (3, "accuracy", 0), (10, "macro_f1", 0)])
def test_intervals_come_with_what_their_reader_must_know(rare: int, metric: str, told: int, tmp_path: Path) -> None:
    labels = ["good"] * 20 + ["bad"] * rare
    answers = ["bad", *labels[1:-1], "good"]
    found = example_intervals([metric], labels, answers, where="the test split")
    assert found.by_metric[metric]
    assert [note[:47] for note in found.notes] == ["The class bad has 3 examples in the test split."] * told

    file = tmp_path / "predictions.parquet"
    pq.write_table(pa.table({"split": ["test"] * len(labels), "label": labels, "prediction": answers}), file)
    assert intervals_of_file(file, "test", [metric]) == found

    before, now = (
        Answers(range(len(labels)), [Prediction(*pair, [0.5, 0.5]) for pair in zip(labels, said, strict=True)])
        for said in (labels, answers)
    )
    tested = PairedAnswers(before, now, partial(ClassScorer, ("bad", "good"))).compare(metric)
    assert isinstance(tested, Difference)
    assert len(tested.notes) == told


def test_a_metric_without_a_direction_or_values_is_refused() -> None:
    with pytest.raises(ConfigError, match="whether higher is better"):
        type("Nothing", (Metric,), {})
    with pytest.raises(ConfigError, match="no values between"):
        type("Empty", (Metric,), {"higher_is_better": True, "range": (1.0, 0.0)})
