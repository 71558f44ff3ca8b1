"""The figures of one comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from peftlab.core.report_parts import ReportPart
from peftlab.figures.bars import draw_interval, draw_stack
from peftlab.figures.frame import whole_number
from peftlab.figures.lines import Curve, CurveAxes, draw_curves
from peftlab.figures.mean_curve import mean_curve
from peftlab.figures.pareto import Axes, CostPoint, draw_pareto
from peftlab.figures.scale import interval_ends
from peftlab.report import wording
from peftlab.report.budget import budget_curve
from peftlab.report.comparison import Comparison, MethodResult
from peftlab.report.comparison_tables import MEMORY_PARTS, interval_text
from peftlab.report.evidence import Basis
from peftlab.report.history import read_history
from peftlab.report.suites import TuningResult

MOST_CURVES = 16
MOST_BARS = 40


@dataclass(frozen=True)
class Figure:
    """A figure with its heading and what one must know to read it."""

    title: str
    drawing: Markup
    note: str = ""


@dataclass(frozen=True)
class CostAxis:
    """A cost that scores are drawn against."""

    name: str
    title: str
    form: Callable[[float | None], str]
    smaller_is_better: bool = True


COST_AXES = (
    CostAxis("peak_memory_bytes", "peak memory", wording.size),
    CostAxis("tokens_per_second", "tokens per second", wording.rate, smaller_is_better=False),
    CostAxis("trainable_parameters", "trainable parameters", wording.count),
)


def pareto_figures(comparison: Comparison) -> list[Figure]:
    """Score against peak memory, speed and trainable parameters; none where fewer than two methods have the figure."""
    return [figure for axis in COST_AXES if (figure := _pareto(comparison, axis))]


def _pareto(comparison: Comparison, axis: CostAxis) -> Figure | None:
    points = []
    for number, method in enumerate(comparison.methods):
        cost = getattr(method.costs, axis.name)
        if cost is not None:
            interval = method.interval
            points.append(CostPoint(number, method.label, cost, method.mean, interval.low, interval.high))
    if len(points) < 2:
        return None
    metric = comparison.metric
    title = f"{metric} × {axis.title}"
    axes = Axes(
        title,
        f"{axis.title}, {'less' if axis.smaller_is_better else 'more'} is better",
        f"{metric}, 95 % interval",
        axis.form,
        lambda value: wording.score(value, metric, unit=False),
        axis.smaller_is_better,
        not wording.lower_is_better(metric),
    )
    return Figure(title, draw_pareto(points, axes))


def learning_figures(comparison: Comparison) -> list[Figure]:
    """Training loss and validation score along the steps, as means over the seeds."""
    losses, scores = [], []
    metric = comparison.metric
    for number, method in enumerate(comparison.methods[:MOST_CURVES]):
        histories = [read_history(entry) for entry in method.entries]
        if loss := mean_curve([history.loss for history in histories]):
            losses.append(Curve(number, method.label, loss))
        of_runs = [[(step, values[metric]) for step, values in h.validation if metric in values] for h in histories]
        if score := mean_curve(of_runs):
            scores.append(Curve(number, method.label, score))
    figures = []
    if scores:
        form = lambda value: wording.score(value, metric, unit=False)  # noqa: E731
        axes = CurveAxes("Learning curves: validation", "step", f"validation {metric}", whole_number, form, dots=True)
        figures.append(Figure(axes.title, draw_curves(scores, axes)))
    if losses:
        axes = CurveAxes(
            "Learning curves: training loss", "step", "training loss", whole_number, lambda value: f"{value:.3g}"
        )
        figures.append(Figure(axes.title, draw_curves(losses, axes)))
    return figures


def lines_figure(part: ReportPart, methods: int) -> Figure:
    """The figure that a task adds.

    Args:
        part: What is drawn.
        methods: How many the comparison has; a line of none of them gets the colour after theirs.
    """
    curves = [
        Curve(methods if line.number is None else line.number, line.name, list(line.points)) for line in part.lines
    ]
    axes = CurveAxes(part.title, part.x, part.y, whole_number, _decimal, dots=True)
    return Figure(axes.title, draw_curves(curves, axes), part.note)


def _decimal(value: float) -> str:
    return f"{value:.3g}"


def budget_figure(comparison: Comparison, results: Sequence[TuningResult]) -> Figure | None:
    """Score against number of trials."""
    numbers = {method.cell: (number, method.label) for number, method in enumerate(comparison.methods)}
    curves, metric = [], comparison.metric
    for result in results[:MOST_CURVES]:
        found = budget_curve(result)
        if found and len(found.expected) > 1:
            number, name = numbers[result.cell]
            curves.append(Curve(number, name, list(enumerate(found.expected, start=1))))
            metric = found.metric
    if not curves:
        return None
    axes = CurveAxes(
        "Was the tuning budget enough?",
        "trials",
        f"expected best validation {metric}",
        whole_number,
        lambda value: wording.score(value, metric, unit=False),
        dots=True,
    )
    note = (
        "The best score that so many random trials are expected to find, at the first rung of the successive halving "
        "(Dodge et al., 2019). A curve that still rises at its end says that more trials would have paid."
    )
    return Figure(axes.title, draw_curves(curves, axes), note)


@dataclass(frozen=True)
class MemoryBar:
    """A method's peak, drawn by category."""

    number: int
    name: str
    total: str
    drawing: Markup


def memory_bars(comparison: Comparison) -> list[MemoryBar]:
    """Memory of training by category, a bar per method, on one scale."""
    found = [
        (number, method, memory)
        for number, method in enumerate(comparison.methods[:MOST_BARS])
        if (memory := method.memory)
    ]
    greatest = max((memory.peak_bytes for _, _, memory in found), default=0)
    bars = []
    for number, method, memory in found:
        parts = [(f"part-{label}", float(getattr(memory, name))) for name, label in MEMORY_PARTS.items()]
        text = ", ".join(f"{label} {wording.size(getattr(memory, name))}" for name, label in MEMORY_PARTS.items())
        drawing = draw_stack(parts, total=greatest, title=f"{method.label}: {text}")
        bars.append(MemoryBar(number, method.label, wording.size(memory.peak_bytes), drawing))
    return bars


def interval_bars(comparison: Comparison) -> list[Markup]:
    """The interval of every method, on one scale."""
    domain = _domain(comparison)
    return [
        _interval_bar(number, method, comparison.metric, domain) for number, method in enumerate(comparison.methods)
    ]


def cut_note(comparison: Comparison) -> str:
    """Which intervals go on beyond the axis, and where they end."""
    low, high = _domain(comparison)
    cut = [
        f"{method.label} ({interval_text(method, comparison.metric)})"
        for method in comparison.methods
        if method.interval.low is not None and method.interval.high is not None
        if method.interval.low < low or method.interval.high > high
    ]
    if not cut:
        return ""
    return (
        f"An arrow marks an interval that is much wider than the others and goes on beyond the axis: {', '.join(cut)}."
    )


def _domain(comparison: Comparison) -> tuple[float, float]:
    means = [method.mean for method in comparison.methods]
    intervals = [(m.mean, end) for m in comparison.methods for end in (m.interval.low, m.interval.high)]
    known = [(mean, end) for mean, end in intervals if end is not None]
    ends = interval_ends(means, [end for _, end in known], [abs(end - mean) for mean, end in known])
    room = (max(ends) - min(ends)) * 0.04 or 0.01
    return min(ends) - room, max(ends) + room


def _interval_bar(number: int, method: MethodResult, metric: str, domain: tuple[float, float]) -> Markup:
    interval = method.interval
    title = f"{method.label}: {wording.score(method.mean, metric)}"
    partial = interval.basis is Basis.EXAMPLES
    if interval.low is not None:
        title += f", 95 % interval {interval_text(method, metric)}"
        title += " over the test examples alone" * partial
    return draw_interval(
        method.mean, interval.low, interval.high, domain=domain, number=number, title=title, partial=partial
    )


def means_figure(
    title: str, across: str, upwards: str, metric: str, methods: Sequence[tuple[str, Sequence[tuple[float, float]]]]
) -> Figure:
    """Mean scores of several methods, each a curve over the same numbers.

    Args:
        title: Of the figure.
        across: What the numbers are.
        upwards: What the scores are.
        metric: Which they are of: says how they are written.
        methods: The name of each and its points: number and mean. The first ones are drawn.
    """
    curves = [Curve(place, name, list(points)) for place, (name, points) in enumerate(methods[:MOST_CURVES])]
    axes = CurveAxes(
        title, across, upwards, whole_number, lambda value: wording.score(value, metric, unit=False), dots=True
    )
    return Figure(title, draw_curves(curves, axes), "Means over the seeds.")
