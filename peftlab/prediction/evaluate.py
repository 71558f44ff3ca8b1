"""A tuned model scored on new data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from peftlab.config import Config
from peftlab.data.streaming import RowStream
from peftlab.interfaces import Reporter
from peftlab.measurement.calibration import CalibrationMeter
from peftlab.prediction.predict import encoded_chunks
from peftlab.prediction.tuned import TunedModel


class Interval(Config):
    """A 95 % interval over the examples: other texts of the same kind. What another seed would change is not in it."""

    low: float
    high: float


class Evaluation(Config):
    """The scores of a run on new data."""

    run: str
    data: str
    rows: int
    truncated: int = Field(description="Texts that were cut to the length that the model was tuned with.")
    scores: dict[str, float]
    intervals: dict[str, Interval | None] = Field(
        description="By metric; null for metrics that have no contribution per example, and where there is one row."
    )
    temperature: float
    expected_calibration_error: float | None = Field(
        description="Of the calibrated scores; null where scores are no probabilities."
    )


def evaluate_rows(tuned: TunedModel, stream: RowStream, reporter: Reporter) -> Evaluation:
    """Score a model on rows with labels, a chunk at a time.

    Args:
        tuned: The model.
        stream: The rows; columns have the names of the recipe's task.
        reporter: Shows the progress.

    Raises:
        DataError: A column is missing, or a label was not seen in training.
    """
    scorer, meter = tuned.task.scorer(tuned.labels), CalibrationMeter()
    truncated = 0
    truths: list[Any] = []  # two references a row: names of classes are the same objects throughout
    answers: list[Any] = []
    for _, encoded in encoded_chunks(tuned, stream, reporter, labelled=True):
        predictions = tuned.predict(encoded.examples)
        scorer.add(predictions)
        for prediction in predictions:
            meter.add(tuned.task.confidences(prediction, tuned.labels))
        truths.extend(prediction.label for prediction in predictions)
        answers.extend(prediction.prediction for prediction in predictions)
        truncated += sum(bool(example.get("truncated")) for example in encoded.examples)
    scores = scorer.compute()
    return Evaluation(
        run=tuned.name,
        data=stream.name,
        rows=len(truths),
        truncated=truncated,
        scores=scores,
        intervals=intervals_of(scores, truths, answers),
        temperature=tuned.temperature,
        expected_calibration_error=meter.compute(),
    )


def intervals_of(scores: Mapping[str, float], labels: list[Any], predictions: list[Any]) -> dict[str, Interval | None]:
    """An interval for each metric that is a mean over examples, or can be written as one."""
    from peftlab.statistics.intervals import mean_interval
    from peftlab.statistics.pseudo_values import per_example_scores

    found: dict[str, Interval | None] = dict.fromkeys(scores)
    for metric in scores:
        values = per_example_scores(metric, labels, predictions) if len(labels) > 1 else None
        if values is not None:
            interval = mean_interval(values[None, :])
            found[metric] = Interval(low=interval.low, high=interval.high)
    return found
