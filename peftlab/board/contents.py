"""What the page of one run shows: its curves, its settings, its checks, and its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from peftlab.figures.frame import whole_number
from peftlab.figures.lines import Curve, CurveAxes, draw_curves
from peftlab.packs.runs import read_metrics_file, read_predictions_file

ROWS = 50
"""Predictions on a page."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come, by its log.

    Args:
        step: The last that was logged.
        epoch: It belongs to.
        loss: Of that step.
        learning_rate: Of that step.
        scores: Of the last evaluation.
    """

    step: int | None
    epoch: float | None
    loss: float | None
    learning_rate: float | None
    scores: Mapping[str, float]


def read_progress(lines: Sequence[Mapping[str, Any]]) -> Progress:
    """From the lines of a metrics log."""
    last: Mapping[str, Any] = next((line for line in reversed(lines) if "loss" in line), {})
    scores: Mapping[str, float] = next(
        (line["validation"] for line in reversed(lines) if isinstance(line.get("validation"), dict)), {}
    )
    return Progress(last.get("step"), last.get("epoch"), last.get("loss"), last.get("learning_rate"), scores)


def figures(lines: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Drawings: of the loss, and of every score of the validation split."""
    curves = {"training loss": _points((line.get("step"), line.get("loss")) for line in lines)}
    for line in lines:
        for metric, value in (line.get("validation") or {}).items():
            curves.setdefault(f"validation {metric}", []).extend(_points([(line.get("step"), value)]))
    return [_drawn(title, points) for title, points in curves.items() if len(points) > 1]


def _points(pairs: Any) -> list[tuple[float, float]]:
    return [
        (float(step), float(value))
        for step, value in pairs
        if isinstance(step, int | float) and isinstance(value, int | float)
        if value == value and abs(value) != float("inf")
    ]


def _drawn(title: str, points: list[tuple[float, float]]) -> Markup:
    axes = CurveAxes(title, "step", title, whole_number, lambda y: f"{y:.3g}", dots=len(points) < 40)
    return draw_curves([Curve(0, "", points)], axes)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics log; what was cut short ends it."""
    return read_metrics_file(folder / "metrics.jsonl")


@dataclass(frozen=True)
class PredictionPage:
    """Some predictions of a split; those that differ from the label come first."""

    split: str
    splits: Sequence[str]
    rows: Sequence[tuple[Any, Any, Any, bool]]
    total: int
    wrong: int
    number: int
    pages: int


def read_predictions(folder: Path, split: str | None, number: int) -> PredictionPage | None:
    """A page of a run's predictions; None where it left none.

    Args:
        folder: Of the run.
        split: None, or one that is not there: the last, which is a test split where there is one.
        number: Of the page, from 1; beyond the last is the last.

    Raises:
        UserError: The file is damaged.
    """
    table = read_predictions_file(folder / "predictions.parquet", ["split", "index", "label", "prediction"])
    if table is None or not table.num_rows:
        return None
    splits = list(dict.fromkeys(table.column("split").to_pylist()))
    shown = str(split if split in splits else splits[-1])
    rows = [
        (row["index"], row["label"], row["prediction"], row["label"] == row["prediction"])
        for row in table.to_pylist()
        if row["split"] == shown
    ]
    rows.sort(key=lambda row: row[3])
    pages = max(1, -(-len(rows) // ROWS))
    number = min(max(1, number), pages)
    wrong = sum(not right for *_, right in rows)
    part = rows[(number - 1) * ROWS : number * ROWS]
    return PredictionPage(shown, splits, part, len(rows), wrong, number, pages)


def flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A recipe as lines of ``training.epochs`` and its value; what is null is left out."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from flat(value, f"{name}.{key}" if name else str(key))
    elif values is not None:
        yield name, str(values)
