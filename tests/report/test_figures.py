"""Figures: labels that never overlap, round ticks, the front."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peftlab.figures.bars import draw_interval
from peftlab.figures.frame import whole_number
from peftlab.figures.labels import Box, Point, place_labels, spread_labels
from peftlab.figures.lines import Curve, CurveAxes, draw_curves
from peftlab.figures.pareto import Axes, CostPoint, draw_pareto, pareto_front
from peftlab.figures.scale import fit_scale, interval_ends
from peftlab.figures.svg import shortened, tag, text_width

BOUNDS = Box(40, 20, 340, 260)
names = st.text("abcdefgmW_-9", min_size=1, max_size=20)
places = st.tuples(st.floats(40, 340), st.floats(20, 260))
finite = st.floats(-1e6, 1e6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(places, names), min_size=1, max_size=25))
def test_labels_overlap_neither_each_other_nor_a_point(wanted: list[tuple[tuple[float, float], str]]) -> None:
    points = [Point(x, y, text, number) for number, ((x, y), text) in enumerate(wanted)]
    dots = [Box(point.x - 4, point.y - 4, point.x + 4, point.y + 4) for point in points]
    labels = place_labels(points, BOUNDS, obstacles=dots)
    for label, other in itertools.product(labels, [*(label.box for label in labels), *dots]):
        box = label.box
        apart = box.right <= other.left or other.right <= box.left or box.bottom <= other.top or other.bottom <= box.top
        assert apart or box is other
    for label in labels:
        assert label.box.right - label.box.left >= text_width(label.point.text) - 1e-6
        assert BOUNDS.left <= label.box.left < label.box.right <= BOUNDS.right
        assert BOUNDS.top <= label.box.top < label.box.bottom <= BOUNDS.bottom


def test_all_labels_are_placed_where_there_is_room() -> None:
    points = [Point(60 + 25 * number, 250 - 20 * number, f"method_{number}", number) for number in range(11)]
    assert len(place_labels(points, BOUNDS)) == 11


@given(st.lists(st.floats(0, 300), max_size=20))
def test_spread_labels_keep_their_distance_and_order(wanted: list[float]) -> None:
    placed = spread_labels(wanted, 0, 300, 12)
    assert all(-1e-6 <= place <= 300 + 1e-6 for place in placed)
    ordered = [place for _, place in sorted(zip(wanted, placed, strict=True), key=lambda pair: (pair[0], pair[1]))]
    assert all(b - a >= 12 - 1e-6 for a, b in itertools.pairwise(ordered))


def test_one_very_wide_interval_does_not_press_the_others_into_a_line() -> None:
    ends = interval_ends([0.59, 0.75, 0.77], [0.24, 0.94, 0.73, 0.77, 0.74, 0.79])
    assert (min(ends), max(ends)) == (pytest.approx(0.5), pytest.approx(0.86))
    assert {0.59, 0.75, 0.77, 0.73, 0.79} <= set(ends)
    assert interval_ends([0.5], [0.1, 0.9]) == [0.5, 0.1, 0.9]


def test_usual_intervals_have_room_where_the_means_are_close() -> None:
    means, ends = [0.750, 0.751, 0.752], [0.73, 0.77, 0.731, 0.771, 0.2, 1.0]
    held = interval_ends(means, ends, [0.02, 0.02, 0.02, 0.02, 0.55, 0.25])
    assert {0.73, 0.77, 0.731, 0.771} <= set(held)
    assert (min(held), max(held)) == (pytest.approx(0.69), pytest.approx(0.812))


@pytest.mark.parametrize(
    ("low", "high", "arrows"), [(0.6, 0.8, 0), (0.1, 0.8, 1), (0.6, 0.99, 1), (0.1, 0.99, 2), (None, None, 0)]
)
def test_a_cut_interval_is_marked(low: float | None, high: float | None, arrows: int) -> None:
    bar = draw_interval(0.7, low, high, domain=(0.5, 0.9), number=0, title="a method")
    assert bar.count('class="cut"') == arrows
    assert bar.count('class="whisker"') == (low is not None)


def test_a_cut_interval_is_marked_in_charts() -> None:
    axes = Axes("title", "cost", "score", str, str)
    usual = [CostPoint(at, f"m{at}", at + 1.0, 0.75 + at / 1000, 0.73, 0.77) for at in range(3)]
    assert draw_pareto(usual, axes).count("L") == 0
    assert draw_pareto([*usual, CostPoint(3, "wide", 5.0, 0.75, 0.1, 0.99)], axes).count("L") == 2 * 4


@example(values=[4.0, 2.2250738585072014e-308], log=True)
@given(st.lists(finite, min_size=1, max_size=8), st.booleans())
def test_a_scale_holds_its_values_and_has_ticks(values: list[float], log: bool) -> None:
    scale = fit_scale(values, 0, 100, may_be_log=log)
    for value in values:
        assert -1e-6 <= scale(value) <= 100 + 1e-6
        assert scale.low <= value <= scale.high
    ticks = scale.ticks(6)
    assert 1 <= len(ticks) <= 9
    assert all(scale.low - 1e-6 <= tick <= scale.high + abs(scale.high) * 1e-9 + 1e-6 for tick in ticks)
    assert math.isfinite(scale(0.0) if not scale.logarithmic else scale(1.0))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_nothing_beats_the_front_and_the_front_beats_the_rest(
    pairs: list[tuple[int, int]], small_cost: bool, great_score: bool
) -> None:
    points = [CostPoint(number, str(number), cost, score, None, None) for number, (cost, score) in enumerate(pairs)]
    axes = Axes("", "", "", str, str, small_cost, great_score)
    front = pareto_front(points, axes)

    def beats(a: CostPoint, b: CostPoint) -> bool:
        cost = (b.cost - a.cost) * (1 if small_cost else -1)
        score = (a.score - b.score) * (1 if great_score else -1)
        return cost >= 0 and score >= 0 and (cost > 0 or score > 0)

    assert front
    assert not any(beats(point, other) for other in front for point in points)
    for point in points:
        same = any((f.cost, f.score) == (point.cost, point.score) for f in front)
        assert same or any(beats(f, point) for f in front)


def test_shortened_text_keeps_both_its_ends() -> None:
    cut = shortened("an-experiment-with-a-long-name-query-value", 120)
    assert cut.startswith("an-exp")
    assert cut.endswith("-value")


@given(names, st.floats(15, 200))
def test_shortened_text_fits(text: str, width: float) -> None:
    assert text_width(shortened(text, width)) <= width


def test_svg_text_is_escaped() -> None:
    assert tag("text", "<b>", data_m='"&') == '<text data-m="&#34;&amp;">&lt;b&gt;</text>'


@pytest.mark.parametrize("last", [2, 3, 4, 1200])
def test_an_axis_of_steps_names_each_once_and_no_step_between(last: int) -> None:
    axes = CurveAxes("loss", "step", "loss", whole_number, lambda value: "")
    chart = draw_curves([Curve(0, "a", [(1, 0.5), (last, 0.25)])], axes)
    for one in chart.split("</svg>")[:2]:
        numbers = re.findall(r'class="tick" text-anchor="middle">([^<]*)<', one)
        assert numbers
        assert len(set(numbers)) == len(numbers)
        assert all(0 <= int(number.replace(",", "")) <= last for number in numbers)
        assert len(re.findall(r'class="axis"', one)) == len(numbers) + 1, "a mark for each number, and the axis"
