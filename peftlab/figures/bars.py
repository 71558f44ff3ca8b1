"""Bars that are as wide as the page lets them be: lengths are percentages."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from peftlab.figures.svg import color, joined, tag

HEIGHT = 16


def draw_interval(
    mean: float,
    low: float | None,
    high: float | None,
    *,
    domain: tuple[float, float],
    number: int,
    title: str,
    partial: bool = False,
) -> Markup:
    """A mean and its interval on a scale that all rows of a table share.

    Args:
        mean: Where the dot is.
        low: Lower end; one beyond the scale gets an arrow.
        high: Upper end.
        domain: Ends of the scale.
        number: Of the method.
        title: For those who do not see it.
        partial: Whether the interval leaves out the seeds; it is drawn with gaps.
    """
    parts = [tag("title", title), tag("line", x1="0", x2="100%", y1="8", y2="8", class_="grid")]
    if low is not None and high is not None:
        kind = "whisker partial" if partial else "whisker"
        parts.append(tag("line", x1=_place(low, domain), x2=_place(high, domain), y1="8", y2="8", class_=kind))
        if low < domain[0]:
            parts.append(_arrow("0%", "M7 3L1 8L7 13"))
        if high > domain[1]:
            parts.append(_arrow("100%", "M-7 3L-1 8L-7 13"))
    parts.append(tag("circle", cx=_place(mean, domain), cy="8", r="4", class_="dot"))
    return tag("svg", joined(parts), class_=f"interval {color(number)}", height=HEIGHT, role="img", aria_label=title)


def _arrow(place: str, path: str) -> Markup:
    return tag("svg", tag("path", d=path, class_="cut"), x=place, overflow="visible")


def _place(value: float, domain: tuple[float, float]) -> str:
    share = (value - domain[0]) / (domain[1] - domain[0])
    return f"{100 * min(max(share, 0), 1):.2f}%"


def draw_stack(parts: Sequence[tuple[str, float]], *, total: float, title: str) -> Markup:
    """Amounts one after the other.

    Args:
        parts: Class of the style sheet, and amount.
        total: The amount that fills the width.
        title: For those who do not see it.
    """
    drawn: list[Markup] = [tag("title", title)]
    start = 0.0
    for name, amount in parts:
        width = 100 * amount / total
        drawn.append(tag("rect", x=f"{start:.2f}%", width=f"{width:.2f}%", y="1", height="14", class_=name))
        start += width
    return tag("svg", joined(drawn), class_="stack", height=HEIGHT, role="img", aria_label=title)
