"""The frame of a chart: its size, axes, ticks and titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from peftlab.figures.scale import Scale
from peftlab.figures.svg import joined, tag, text_width

Format = Callable[[float], str]


@dataclass(frozen=True)
class Size:
    """A chart's size in pixels, for one kind of screen."""

    width: float
    height: float
    kind: str


WIDE = Size(560, 380, "wide")
NARROW = Size(340, 310, "narrow")


@dataclass(frozen=True)
class Plot:
    """The area inside the axes."""

    left: float
    top: float
    right: float
    bottom: float


def whole_number(value: float) -> str:
    """The format of an axis of counts: between whole numbers there is nothing, and so no tick."""
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 else ""


def draw_frame(
    plot: Plot, x: Scale, y: Scale, *, x_title: str, y_title: str, x_format: Format, y_format: Format
) -> Markup:
    """Grid lines, ticks and titles. The y title stands above the axis, where it needs no turning of heads."""
    y_ticks = y.ticks(6)
    x_ticks = _with_room(x.ticks(max(2, int((plot.right - plot.left) / 62))), x, x_format)
    parts = [tag("line", x1=plot.left, x2=plot.right, y1=y(tick), y2=y(tick), class_="grid") for tick in y_ticks]
    parts += [
        tag("text", y_format(tick), x=plot.left - 6, y=y(tick) + 3.5, class_="tick", text_anchor="end")
        for tick in y_ticks
    ]
    parts += [
        tag("line", x1=x(tick), x2=x(tick), y1=plot.bottom, y2=plot.bottom + 4, class_="axis") for tick in x_ticks
    ]
    parts += [
        tag("text", x_format(tick), x=x(tick), y=plot.bottom + 16, class_="tick", text_anchor="middle")
        for tick in x_ticks
    ]
    parts.append(tag("line", x1=plot.left, x2=plot.right, y1=plot.bottom, y2=plot.bottom, class_="axis"))
    parts.append(tag("text", x_title, x=plot.right, y=plot.bottom + 32, class_="title", text_anchor="end"))
    parts.append(tag("text", y_title, x=2.0, y=11.0, class_="title"))
    return joined(parts)


def _with_room(ticks: Sequence[float], scale: Scale, form: Format) -> list[float]:
    """Ticks that have numbers, which do not run into each other."""
    kept: list[float] = []
    end = float("-inf")
    for tick in ticks:
        number = form(tick)
        half = text_width(number) / 2
        if number and scale(tick) - half > end + 4:
            kept.append(tick)
            end = scale(tick) + half
    return kept


def draw_chart(size: Size, title: str, *content: object) -> Markup:
    """The element around a chart."""
    return tag(
        "svg",
        joined([tag("title", title), *content]),
        viewBox=f"0 0 {size.width:g} {size.height:g}",
        class_=f"chart {size.kind}",
        role="img",
        aria_label=title,
    )
