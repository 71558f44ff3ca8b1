"""A tuned model scored on new data."""

from __future__ import annotations

from pydantic import Field

from peftlab.config import Config
from peftlab.data.streaming import RowStream
from peftlab.interfaces import Reporter
from peftlab.measurement.calibration import CalibrationMeter
from peftlab.prediction.predict import encoded_chunks
from peftlab.prediction.tuned import TunedModel


class Evaluation(Config):
    """The scores of a run on new data."""

    run: str
    data: str
    rows: int
    truncated: int = Field(description="Texts that were cut to the length that the model was tuned with.")
    scores: dict[str, float]
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
    rows = truncated = 0
    for _, encoded in encoded_chunks(tuned, stream, reporter, labelled=True):
        predictions = tuned.predict(encoded.examples)
        scorer.add(predictions)
        for prediction in predictions:
            meter.add(tuned.task.confidences(prediction, tuned.labels))
        rows += len(predictions)
        truncated += sum(bool(example.get("truncated")) for example in encoded.examples)
    return Evaluation(
        run=tuned.name,
        data=stream.name,
        rows=rows,
        truncated=truncated,
        scores=scorer.compute(),
        temperature=tuned.temperature,
        expected_calibration_error=meter.compute(),
    )
