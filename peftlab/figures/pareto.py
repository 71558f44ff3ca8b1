"""Score against a cost: points with error bars, the front that nothing beats, labels beside the points."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from peftlab.figures.frame import NARROW, WIDE, Format, Plot, Size, draw_chart, draw_frame
from peftlab.figures.labels import Box, Point, place_labels
from peftlab.figures.scale import Scale, fit_scale, interval_ends
from peftlab.figures.svg import color, joined, shortened, tag

RADIUS = 4.5
MOST_SHOWN = 30
LABEL_SHARE = 0.4
"""A label is at most so wide, as a share of the plot's width: a longer one is cut."""


@dataclass(frozen=True)
class CostPoint:
    """A method in the figure.

    Args:
        number: Of the method, which gives its colour.
        name: Its label.
        cost: Along x.
        score: Along y.
        low: Lower end of the score's interval.
        high: Upper end.
    """

    number: int
    name: str
    cost: float
    score: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Axes:
    """What the two axes are of."""

    title: str
    x_title: str
    y_title: str
    x_format: Format
    y_format: Format
    smaller_cost_is_better: bool = True
    greater_score_is_better: bool = True


def pareto_front(points: Sequence[CostPoint], axes: Axes) -> list[CostPoint]:
    """The points that no other one beats in cost and score both, by cost."""
    cost_sign = 1 if axes.smaller_cost_is_better else -1
    score_sign = -1 if axes.greater_score_is_better else 1
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (cost_sign * point.cost, score_sign * point.score)):
        if not front or score_sign * point.score < score_sign * front[-1].score:
            front.append(point)
    return sorted(front, key=lambda point: point.cost)


def draw_pareto(points: Sequence[CostPoint], axes: Axes) -> Markup:
    """The figure, once for wide and once for narrow screens."""
    return joined(_draw(points, axes, size) for size in (WIDE, NARROW))


def _draw(points: Sequence[CostPoint], axes: Axes, size: Size) -> Markup:
    plot = Plot(46, 24, size.width - 12, size.height - 42)
    x = fit_scale([point.cost for point in points], plot.left, plot.right, may_be_log=True)
    ends = [(point.score, end) for point in points for end in (point.low, point.high) if end is not None]
    widths = [abs(end - score) for score, end in ends]
    held = interval_ends([point.score for point in points], [end for _, end in ends], widths)
    y = fit_scale(held, plot.bottom, plot.top)
    front = pareto_front(points, axes)
    # Of very many points only some have room for a label and an error bar: the front first, then the best.
    shown = [*front, *(point for point in points if point not in front)][:MOST_SHOWN]
    corners = _staircase(front, axes, x, y, plot)
    frame = draw_frame(
        plot,
        x,
        y,
        x_title=axes.x_title + (" (log scale)" if x.logarithmic else ""),
        y_title=axes.y_title,
        x_format=axes.x_format,
        y_format=axes.y_format,
    )
    return draw_chart(
        size,
        axes.title,
        frame,
        tag("polyline", points=" ".join(f"{across:.1f},{down:.1f}" for across, down in corners), class_="front"),
        joined(_mark(point, x, y, point in front, point in shown) for point in points),
        _labels(shown, points, corners, x, y, plot),
    )


def _staircase(front: Sequence[CostPoint], axes: Axes, x: Scale, y: Scale, plot: Plot) -> list[tuple[float, float]]:
    """The front's corners: between two of its points the better score costs what its own point costs."""
    places = [(x(point.cost), y(point.score)) for point in front]
    if not axes.smaller_cost_is_better:
        places.reverse()
    corners = [places[0]]
    for across, down in places[1:]:
        corners += [(across, corners[-1][1]), (across, down)]
    corners.append((plot.right if axes.smaller_cost_is_better else plot.left, corners[-1][1]))
    return corners


def _mark(point: CostPoint, x: Scale, y: Scale, on_front: bool, with_bar: bool) -> Markup:
    across, down = x(point.cost), y(point.score)
    parts = []
    if with_bar and point.low is not None and point.high is not None:
        bar = f"M{across:.1f} {y(point.low):.1f}V{y(point.high):.1f}"
        parts.append(tag("path", d=bar + _arrows(point.low, point.high, across, y), class_="error"))
    kind = "dot front-dot" if on_front else "dot"
    parts.append(tag("circle", cx=across, cy=down, r=RADIUS, class_=kind))
    return tag("g", joined(parts), class_=f"mark {color(point.number)}", data_m=point.number)


def _arrows(low: float, high: float, across: float, y: Scale) -> str:
    """Heads at the ends of an interval that go on beyond the axis."""
    heads = ""
    for beyond, end, inwards in ((low < y.low, y(low), -5), (high > y.high, y(high), 5)):
        if beyond:
            heads += (
                f"M{across - 4:.1f} {end + inwards:.1f}L{across:.1f} {end:.1f}L{across + 4:.1f} {end + inwards:.1f}"
            )
    return heads


def _labels(
    shown: Sequence[CostPoint],
    points: Sequence[CostPoint],
    corners: Sequence[tuple[float, float]],
    x: Scale,
    y: Scale,
    plot: Plot,
) -> Markup:
    dots = [Box(x(p.cost) - RADIUS, y(p.score) - RADIUS, x(p.cost) + RADIUS, y(p.score) + RADIUS) for p in points]
    bars = [
        Box(x(p.cost) - 1, y(p.high), x(p.cost) + 1, y(p.low))
        for p in shown
        if p.low is not None and p.high is not None
    ]
    bars += [
        Box(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1)
        for (a, b), (c, d) in itertools.pairwise(corners)
    ]
    width = LABEL_SHARE * (plot.right - plot.left)
    wanted = [Point(x(point.cost), y(point.score), shortened(point.name, width), point.number) for point in shown]
    bounds = Box(plot.left, plot.top - 8, plot.right, plot.bottom)
    parts = []
    for label in place_labels(wanted, bounds, obstacles=dots, avoid=bars):
        if label.leader:
            x1, y1, x2, y2 = label.leader
            parts.append(tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="leader"))
        parts.append(
            tag(
                "text",
                label.point.text,
                x=label.box.left,
                y=label.baseline,
                class_=f"label mark {color(label.point.number)}",
                data_m=label.point.number,
            )
        )
    return joined(parts)
