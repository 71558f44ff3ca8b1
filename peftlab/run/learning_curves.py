"""How a run learned, as a figure: its training loss and its validation score by step."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from peftlab.core.errors import ConfigError, UserError
from peftlab.core.files import write_text
from peftlab.figures.frame import whole_number
from peftlab.figures.lines import Curve, CurveAxes, draw_alone
from peftlab.figures.mean_curve import mean_curve
from peftlab.packs.log_lines import number_in, scores_in
from peftlab.packs.runs import read_run_metrics


@dataclass(frozen=True, repr=False)
class LearningCurves:
    """A figure that notebooks show.

    Args:
        svg: The figure, as an SVG file.
        description: What it shows, in a line.
    """

    svg: str
    description: str

    def save(self, path: Path | str) -> Path:
        """Write the figure into an ``.svg`` file; one that is there is replaced.

        Raises:
            ConfigError: The name has another ending.
        """
        path = Path(path)
        if path.suffix.lower() != ".svg":
            raise ConfigError("the figure is an SVG file", where=str(path), hint="Give it a name that ends on .svg.")
        write_text(path, self.svg + "\n")
        return path

    def __repr__(self) -> str:
        return f"<LearningCurves: {self.description}>"

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        # An image of its own: a style sheet inside the page would reach the rest of the notebook.
        data = base64.b64encode(self.svg.encode()).decode()
        return f'<img alt="{self.description}" src="data:image/svg+xml;base64,{data}">'


def draw_learning_curves(folder: Path, *, metric: str | None) -> LearningCurves:
    """Draw the metrics log of a run.

    Args:
        folder: The run's.
        metric: Of the validation split; None: the loss alone.

    Raises:
        UserError: There is nothing to draw.
    """
    losses: list[tuple[float, float]] = []
    scores: list[tuple[float, float]] = []
    for line in read_run_metrics(folder):
        step, loss_of_step, score_of_step = (
            number_in(line, "step"),
            number_in(line, "loss"),
            scores_in(line).get(metric or ""),
        )
        if step is not None:
            losses += [(step, loss_of_step)] if loss_of_step is not None else []
            scores += [(step, score_of_step)] if score_of_step is not None else []
    loss, score = mean_curve([losses]), mean_curve([scores])
    if not loss:
        raise UserError("the run logged no step, so there are no curves", where=str(folder))
    axes = CurveAxes("Training loss", "step", "training loss", whole_number, _number)
    figures = [([Curve(0, "loss", loss)], axes)]
    shown = f"training loss {loss[0][1]:.3g} to {loss[-1][1]:.3g}"
    if score and metric is not None:
        axes = CurveAxes(f"Validation {metric}", "step", f"validation {metric}", whole_number, _number, dots=True)
        figures.append(([Curve(1, metric, score)], axes))
        shown += f", validation {metric} {score[0][1]:.3g} to {score[-1][1]:.3g}"
    return LearningCurves(str(draw_alone(figures)), f"{shown} in {losses[-1][0]:.0f} steps")


def _number(value: float) -> str:
    return f"{value:.4g}"
