"""A tuned model scored on new data."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from peftlab.config import Config
from peftlab.data.streaming import RowStream
from peftlab.interfaces import Reporter
from peftlab.measurement.calibration import CalibrationMeter
from peftlab.measurement.example_intervals import example_intervals
from peftlab.prediction.predict import encoded_chunks
from peftlab.prediction.tuned import TunedModel


class Evaluation(Config):
    """The scores of a run on new data."""

    run: str
    data: str
    rows: int
    truncated: int = Field(description="Texts that were cut to the length that the model was tuned with.")
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float] | None] = Field(
        description="95 % intervals over the examples; null for metrics that have no contribution per example."
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
        intervals=example_intervals(scores, truths, answers),
        temperature=tuned.temperature,
        expected_calibration_error=meter.compute(),
    )
