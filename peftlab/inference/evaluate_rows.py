"""A tuned model scored on new data."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from peftlab.core.config import Config
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.core.splits import EncodedSplit, Split
from peftlab.core.task import Prediction
from peftlab.data.columns import check_columns
from peftlab.data.streaming import RowStream, whole_split_of
from peftlab.inference.predict import encoded_chunks
from peftlab.inference.prepared_rows import with_prepared
from peftlab.inference.tuned_model import TunedModel
from peftlab.measurement.calibration import CalibrationMeter
from peftlab.measurement.example_intervals import example_intervals
from peftlab.preparation.metric_choice import silent_metrics
from peftlab.training.evaluation import evaluate


class Evaluation(Config):
    """The scores of a run on new data."""

    run: str
    data: str
    rows: int
    examples: int = Field(
        description="What is scored: rows, inputs with all of their references, blocks of text, or steps."
    )
    truncated: int = Field(description="Texts that were cut to the length that the model was tuned with.")
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float] | None] = Field(
        description="95 % intervals over the examples; null for metrics that have no contribution per example."
    )
    notes: tuple[str, ...] = Field(
        description="Which metrics say nothing on these rows, and why; where an interval is too narrow, and why."
    )
    temperature: float
    expected_calibration_error: float | None = Field(
        description="Of the calibrated scores; null where scores are no probabilities."
    )


def evaluate_rows(tuned: TunedModel, stream: RowStream, reporter: Reporter, *, offline: bool) -> Evaluation:
    """Score a model on rows with what is to be predicted, by the metrics of the run's own evaluation.

    Args:
        tuned: The model.
        stream: The rows; columns have the names of the recipe's task, those that may be missing included.
        reporter: Shows the progress.
        offline: Allow no network, where a task asks the untuned base too.

    Raises:
        DataError: A column is missing, or a label was not seen in training.
    """
    kept = _Kept(tuned)
    by_chunks = tuned.task.predicts_from_logits and not tuned.task.ranks_whole_split
    if by_chunks:
        scores = _score_chunks(tuned, stream, reporter, kept)
    else:
        scores = _score_table(tuned, stream, reporter, kept, offline=offline)
    intervals = example_intervals(scores, kept.labels, kept.predictions, where=stream.name)
    return Evaluation(
        run=tuned.name,
        data=stream.name,
        rows=kept.rows,
        examples=len(kept.labels),
        truncated=kept.truncated,
        scores=scores,
        intervals=intervals.by_metric,
        notes=(*kept.silent_metrics(scores), *intervals.notes),
        temperature=tuned.temperature,
        expected_calibration_error=kept.meter.compute(),
    )


class _Kept:
    """What is kept of the predictions: two references an example (names of classes are the same objects throughout)."""

    def __init__(self, tuned: TunedModel) -> None:
        self._task, self._classes = tuned.task, tuned.labels
        self._columns: dict[str, list[Any]] = {name: [] for name in tuned.task.label_columns()}
        self._whole: Split | None = None
        self.rows = self.truncated = 0
        self.labels: list[Any] = []
        self.predictions: list[Any] = []
        self.meter = CalibrationMeter()

    def read_chunk(self, split: Split, encoded: EncodedSplit) -> None:
        """Count what was read, and keep its labels."""
        self._count(len(split), encoded)
        for name, values in self._columns.items():
            values.extend(sys.intern(value) if type(value) is str else value for value in split.columns[name])

    def read_whole(self, rows: int, split: Split, encoded: EncodedSplit) -> None:
        """Count what was read: so many rows of the table have become a split."""
        self._count(rows, encoded)
        self._whole = split

    def silent_metrics(self, metrics: Iterable[str]) -> list[str]:
        """Which of them say nothing on what was read, and why: a sentence for each reason."""
        columns: dict[str, Sequence[Any]] = {**self._columns}
        split = self._whole or Split("test", range(self.rows), columns, "")
        return silent_metrics(self._task, metrics, split, self._classes)

    def _count(self, rows: int, encoded: EncodedSplit) -> None:
        self.rows += rows
        self.truncated += sum(bool(example.get("truncated")) for example in encoded.examples)

    def write(self, split: str, index: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Take predictions, as a run's file does."""
        for prediction in predictions:
            self.meter.add(self._task.confidences(prediction, self._classes))
        self.labels.extend(prediction.label for prediction in predictions)
        self.predictions.extend(prediction.prediction for prediction in predictions)


def _score_chunks(tuned: TunedModel, stream: RowStream, reporter: Reporter, kept: _Kept) -> dict[str, float]:
    """A table of any size, whatever computes the logits; with calibrated scores."""
    scorer = tuned.recipe.scorer(tuned.labels)
    for split, encoded in encoded_chunks(tuned, stream, reporter, labelled=True):
        predictions = tuned.predict(encoded.examples)
        scorer.add(predictions)
        kept.read_chunk(split, encoded)
        kept.write(split.name, encoded.index, predictions)
    return scorer.compute()


def _score_table(
    tuned: TunedModel, stream: RowStream, reporter: Reporter, kept: _Kept, *, offline: bool
) -> dict[str, float]:
    """A whole table, as a run scores its test split: rows may be references of one another, or make one long text."""
    task, (model, inference) = tuned.task, tuned.module()
    table = whole_split_of(stream, "test", task.source_columns(), optional=task.optional_columns())
    split = task.tidy_rows(task.arrange(table))
    check_columns(split, task.text_columns(), task.label_columns())
    task.check_split(split, tuned.labels)
    encoded = with_prepared(tuned, task.encode(split, tuned.tokenizer, tuned.labels), offline=offline)
    kept.read_whole(len(table), split, encoded)
    with progress_bar(reporter, f"evaluating {stream.name}", len(encoded)):
        return evaluate(
            model,
            task,
            encoded,
            tuned.batches(task.lengths(encoded.examples)),
            pad_token_id=tuned.tokenizer.pad_token_id,
            inference=inference,
            writer=kept,
            after_batch=reporter.advance,
            scorer=tuned.recipe.scorer(tuned.labels),
        )
