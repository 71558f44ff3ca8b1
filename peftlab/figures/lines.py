"""Curves of several methods, each named at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from peftlab.figures.frame import NARROW, WIDE, Format, Plot, Size, draw_chart, draw_frame
from peftlab.figures.labels import spread_labels
from peftlab.figures.scale import Scale, fit_scale
from peftlab.figures.svg import FIGURE_STYLE, color, joined, shortened, tag, text_width

LABEL_GAP = 12.5


@dataclass(frozen=True)
class Curve:
    """The points of one method, by x."""

    number: int
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CurveAxes:
    """What the two axes are of."""

    title: str
    x_title: str
    y_title: str
    x_format: Format
    y_format: Format
    dots: bool = False


def draw_curves(curves: Sequence[Curve], axes: CurveAxes) -> Markup:
    """The figure, once for wide and once for narrow screens."""
    return joined(_draw(curves, axes, size) for size in (WIDE, NARROW))


def draw_alone(figures: Sequence[tuple[Sequence[Curve], CurveAxes]]) -> Markup:
    """Figures one below the other, as an SVG file that brings its style along."""
    width, height = WIDE.width, WIDE.height
    places = [
        tag("svg", _draw(curves, axes, WIDE), x=0, y=round(at * height), width=width, height=height)
        for at, (curves, axes) in enumerate(figures)
    ]
    background = tag("rect", width="100%", height="100%", fill="var(--page)")
    return tag(
        "svg",
        joined([tag("style", Markup(FIGURE_STYLE)), background, *places]),  # noqa: S704 - peftlab's own
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height * len(figures):g}",
        width=width,
        font_family="system-ui, sans-serif",
        font_size="11px",
    )


def _draw(curves: Sequence[Curve], axes: CurveAxes, size: Size) -> Markup:
    most = 165 if size is WIDE else 92
    margin = min(most, max(text_width(curve.name) for curve in curves)) + 14
    plot = Plot(46, 24, size.width - margin, size.height - 42)
    x = fit_scale([x for curve in curves for x, _ in curve.points], plot.left, plot.right, pad=0.02)
    y = fit_scale([y for curve in curves for _, y in curve.points], plot.bottom, plot.top)
    frame = draw_frame(
        plot,
        x,
        y,
        x_title=axes.x_title,
        y_title=axes.y_title,
        x_format=axes.x_format,
        y_format=axes.y_format,
    )
    lines = joined(_line(curve, x, y, axes.dots) for curve in curves)
    return draw_chart(size, axes.title, frame, lines, _end_labels(curves, x, y, plot, size.width))


def _line(curve: Curve, x: Scale, y: Scale, dots: bool) -> Markup:
    places = [(x(across), y(up)) for across, up in curve.points]
    line = tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in places), class_="curve")
    marks = [tag("circle", cx=a, cy=b, r=2.5, class_="dot") for a, b in places] if dots or len(places) == 1 else []
    return tag("g", joined([line, *marks]), class_=f"mark {color(curve.number)}", data_m=curve.number)


def _end_labels(curves: Sequence[Curve], x: Scale, y: Scale, plot: Plot, width: float) -> Markup:
    room = int((plot.bottom - plot.top) / LABEL_GAP) + 1
    shown = curves[:room]
    ends = [(x(curve.points[-1][0]), y(curve.points[-1][1])) for curve in shown]
    heights = spread_labels([height for _, height in ends], plot.top, plot.bottom, LABEL_GAP)
    left = plot.right + 12
    parts = []
    for curve, (across, down), height in zip(shown, ends, heights, strict=True):
        parts.append(tag("line", x1=across, y1=down, x2=left - 2, y2=height, class_="leader"))
        parts.append(
            tag(
                "text",
                shortened(curve.name, width - left),
                x=left,
                y=height + 3.5,
                class_=f"label mark {color(curve.number)}",
                data_m=curve.number,
            )
        )
    return joined(parts)
