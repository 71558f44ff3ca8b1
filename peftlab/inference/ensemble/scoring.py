"""What models say of held-out rows, what that scores, and how the combination compares with the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import DataError
from peftlab.core.metric import METRICS, signed
from peftlab.core.record import PREDICTIONS_NAME, PairedTest
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.core.splits import Split
from peftlab.core.task import Prediction, Task
from peftlab.data.columns import take
from peftlab.inference.tuned_model import TunedModel
from peftlab.measurement.calibration import CalibrationMeter
from peftlab.measurement.example_intervals import ExampleIntervals, example_intervals, example_values
from peftlab.recipe.schema import Recipe
from peftlab.training.evaluation import PredictionWriter

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 512
"""Rows after which the bar moves."""

Said = Mapping[str, Sequence[Prediction]]
"""By split, in the order of its rows."""


def ask(tuned: TunedModel, splits: Mapping[str, Split], reporter: Reporter, who: str) -> Said:
    """What a model says of every row of some splits."""
    said: dict[str, Sequence[Prediction]] = {}
    for name, split in splits.items():
        tuned.task.check_split(split, tuned.labels)
        found: list[Prediction] = []
        with progress_bar(reporter, f"{who} on {name}", len(split)):
            for start in range(0, len(split), CHUNK):
                part = take(split, range(start, min(start + CHUNK, len(split))))
                found += tuned.predict(tuned.encode(part).examples)
                reporter.advance(len(part))
        said[name] = found
    return said


def write_predictions(folder: Path, splits: Mapping[str, Split], said: Said) -> None:
    """Write what was said of the rows of splits into a folder, as a run has it."""
    with PredictionWriter(folder / PREDICTIONS_NAME) as writer:
        for name, split in splits.items():
            writer.write(name, split.index, said[name])


def scores_of(said: Said, recipe: Recipe, labels: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """The metrics of each split, as a run has them."""
    found = {}
    for name, predictions in said.items():
        scorer = recipe.scorer(labels)
        scorer.add(predictions)
        found[name] = scorer.compute()
    return found


def intervals_of(said: Said, scores: Mapping[str, Mapping[str, float]]) -> dict[str, ExampleIntervals]:
    """95 % intervals over the examples of each split."""
    return {
        name: example_intervals(scores[name], *labels_and_answers(own), where=f"the {name} split")
        for name, own in said.items()
    }


def by_split(intervals: Mapping[str, ExampleIntervals]) -> dict[str, dict[str, tuple[float, float] | None]]:
    """As it is written down: split, then metric."""
    return {name: own.by_metric for name, own in intervals.items()}


def notes_of(intervals: Mapping[str, ExampleIntervals]) -> list[str]:
    """What a reader of the intervals must know, each thing once."""
    return list(dict.fromkeys(note for own in intervals.values() for note in own.notes))


def calibration_of(said: Said, task: Task, labels: tuple[str, ...]) -> dict[str, float | None]:
    """The expected calibration error of each split; None where scores are no probabilities."""
    found: dict[str, float | None] = {}
    for name, predictions in said.items():
        meter = CalibrationMeter()
        for prediction in predictions:
            meter.add(task.confidences(prediction, labels))
        found[name] = meter.compute()
    return found


def labels_and_answers(predictions: Sequence[Prediction]) -> tuple[list[Any], list[Any]]:
    """What is right, and what was said."""
    return [item.label for item in predictions], [item.prediction for item in predictions]


def judged_by(recipe: Recipe) -> str:
    """The metric that the runs were chosen by."""
    return recipe.evaluation.metric or recipe.task.metrics[0]


def best_run(scores: Sequence[Mapping[str, Mapping[str, float]]], metric: str) -> tuple[int, str]:
    """The place of the best run, and the split that says so: validation where there is one, so that test stays fair.

    Raises:
        DataError: The metric is not defined on the rows that are left, or of what a run says of them.
    """
    split = "validation" if "validation" in scores[0] else "test"
    lost = next((number for number, own in enumerate(scores, start=1) if metric not in own[split]), None)
    if lost is not None:
        raise DataError(
            f"run {lost} has no {metric} on the {split} rows that no run has seen, so none can be called the best",
            where=f"evaluation.metric: {metric}",
            hint=f"It takes more {split} rows, of every class; or tune the runs by another metric.",
        )
    return max(range(len(scores)), key=lambda at: signed(metric, scores[at][split][metric])), split


def paired_test(ours: Said, theirs: Said, metric: str, *, best: str | Path, chosen_on: str) -> PairedTest | None:
    """How much better a combination is than the best run, on the same examples.

    Args:
        ours: Of the combination.
        theirs: Of that run.
        metric: To compare by.
        best: The run, as it is to be named.
        chosen_on: The split on which it is the best.

    Returns:
        None where the metric has no contribution per example.
    """
    from peftlab.statistics.pairs import compare_all

    split = "test" if "test" in ours else "validation"
    values = [example_values(metric, *labels_and_answers(said[split])) for said in (ours, theirs)]
    if values[0] is None or values[1] is None or len(ours[split]) < 2:
        return None
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    table = compare_all([sign * each[None, :] for each in values if each is not None])
    return PairedTest(
        best=str(best),
        chosen_on=chosen_on,
        split=split,
        metric=metric,
        difference=float(table.difference[0, 1]),
        low=float(table.low[0, 1]),
        high=float(table.high[0, 1]),
        p_value=float(table.p_value[0, 1]),
    )
