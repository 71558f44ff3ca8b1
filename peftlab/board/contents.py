"""What the page of one run shows: its curves, its settings, its checks, and its predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from peftlab.core.record import METRICS_NAME, PREDICTIONS_NAME
from peftlab.figures.frame import whole_number
from peftlab.figures.lines import Curve, CurveAxes, draw_curves
from peftlab.figures.mean_curve import mean_curve
from peftlab.packs.log_lines import number_in, scores_in
from peftlab.packs.runs import read_metrics_file, read_predictions_file
from peftlab.report import wording

ROWS = 50
"""Predictions on a page."""
SCORES = "validation "
"""How the title of a figure of scores begins."""


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

    step: float | None
    epoch: float | None
    loss: float | None
    learning_rate: float | None
    scores: Mapping[str, float]


def read_progress(lines: Sequence[Mapping[str, Any]]) -> Progress:
    """From the lines of a metrics log."""
    last: Mapping[str, Any] = next((line for line in reversed(lines) if "loss" in line), {})
    scores = next(filter(None, map(scores_in, reversed(lines))), {})
    step, epoch, loss, rate = (number_in(last, name) for name in ("step", "epoch", "loss", "learning_rate"))
    return Progress(step, epoch, loss, rate, scores)


def figures(lines: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Drawings: of the loss, and of every score of the validation split."""
    curves: dict[str, list[tuple[float, float]]] = {"training loss": []}
    for line in lines:
        step, loss = number_in(line, "step"), number_in(line, "loss")
        if step is None:
            continue
        if loss is not None:
            curves["training loss"].append((step, loss))
        for metric, value in scores_in(line).items():
            curves.setdefault(f"{SCORES}{metric}", []).append((step, value))
    return [_drawn(title, mean_curve([points])) for title, points in curves.items() if len(points) > 1]


def _drawn(title: str, points: list[tuple[float, float]]) -> Markup:
    def shown(value: float) -> str:
        return (
            wording.score(value, title.removeprefix(SCORES), unit=False) if title.startswith(SCORES) else f"{value:.3g}"
        )

    return draw_curves(
        [Curve(0, "", points)], CurveAxes(title, "step", title, whole_number, shown, dots=len(points) < 40)
    )


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics log; what was cut short ends it."""
    return read_metrics_file(folder / METRICS_NAME)


@dataclass(frozen=True)
class PredictionPage:
    """Some predictions of a split; those that are farthest from the label come first.

    Args:
        split: That is shown.
        splits: All that there are.
        rows: Row of the table, label, prediction, and whether this is right; numbers are neither right nor wrong.
        total: How many there are in the split.
        wrong: How many are not right; None: they are numbers.
        number: Of the page.
        pages: How many there are.
    """

    split: str
    splits: Sequence[str]
    rows: Sequence[tuple[Any, Any, Any, bool]]
    total: int
    wrong: int | None
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
    table = read_predictions_file(folder / PREDICTIONS_NAME, ["split", "index", "label", "prediction"])
    if table is None or not table.num_rows:
        return None
    splits = list(dict.fromkeys(map(str, table.column("split").to_pylist())))
    shown = str(split if split in splits else splits[-1])
    found = [row for row in table.to_pylist() if str(row["split"]) == shown]
    are_numbers = all(_is_number(row[name]) for row in found for name in ("label", "prediction"))
    found.sort(key=_nearness if are_numbers else _is_right)
    pages = max(1, -(-len(found) // ROWS))
    number = min(max(1, number), pages)
    rows = [
        (row["index"], row["label"], row["prediction"], are_numbers or _is_right(row))
        for row in found[(number - 1) * ROWS : number * ROWS]
    ]
    wrong = None if are_numbers else sum(not _is_right(row) for row in found)
    return PredictionPage(shown, splits, rows, len(found), wrong, number, pages)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nearness(row: Mapping[str, Any]) -> float:
    distance = abs(row["label"] - row["prediction"])
    return -distance if distance == distance else -math.inf


def _is_right(row: Mapping[str, Any]) -> bool:
    """Whether the answer is the label, or one of the references; of a reward, whether it has the right sign."""
    label, said = row["label"], row["prediction"]
    if isinstance(label, bool) and isinstance(said, float):
        return label == (said > 0)
    return bool(label == said) or (isinstance(label, list) and said in label)


def flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A recipe as lines of ``training.epochs`` and its value; what is null is left out."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from flat(value, f"{name}.{key}" if name else str(key))
    elif values is not None:
        yield name, str(values)
