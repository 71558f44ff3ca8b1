"""Labels of points that overlap neither each other nor any point.

Greedy: labels are placed in the order given, each at the cheapest of some sixty places around its point. A label
that finds no free place is left out; none is ever put over another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.figures.svg import FONT_SIZE, text_width

Boxes = NDArray[np.float64]
GAP = 1.5
RADII = (7.0, 14.0, 26.0, 40.0, 58.0)
ANGLES = 16
LEADER_FROM = 12.0
"""A label farther from its point than this gets a line to it."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Point:
    """A point that wants a label."""

    x: float
    y: float
    text: str
    number: int = 0


@dataclass(frozen=True)
class Label:
    """A label in its place.

    Args:
        point: What it belongs to.
        box: Where the text is.
        distance: From the point, in pixels.
    """

    point: Point
    box: Box
    distance: float

    @property
    def baseline(self) -> float:
        """Where the text's letters stand."""
        return self.box.bottom - 0.27 * (self.box.bottom - self.box.top)

    @property
    def leader(self) -> tuple[float, float, float, float] | None:
        """The line from the point to the nearest place of the box."""
        if self.distance < LEADER_FROM:
            return None
        x = min(max(self.point.x, self.box.left), self.box.right)
        y = min(max(self.point.y, self.box.top), self.box.bottom)
        return self.point.x, self.point.y, x, y


def place_labels(
    points: Sequence[Point],
    bounds: Box,
    *,
    obstacles: Sequence[Box] = (),
    avoid: Sequence[Box] = (),
) -> list[Label]:
    """Place labels.

    Args:
        points: The most important first.
        bounds: Labels stay inside.
        obstacles: Labels never cover these.
        avoid: Labels cover these only where nothing else is free, such as error bars.

    Returns:
        The labels that found a place, in the order of their points.
    """
    taken = _array(obstacles)
    soft = _array(avoid)
    placed: list[Label] = []
    for point in points:
        boxes, distances = _candidates(point, text_width(point.text, FONT_SIZE), FONT_SIZE * 1.25)
        free = _inside(boxes, bounds) & ~_overlaps(boxes, taken).any(axis=1)
        if not free.any():
            continue
        cost = distances + 8.0 * _overlaps(boxes, soft).sum(axis=1) + 12.0 * _crossed(point, boxes, placed)
        best = int(np.argmin(np.where(free, cost, np.inf)))
        label = Label(point, Box(*(float(value) for value in boxes[best])), float(distances[best]))
        placed.append(label)
        taken = np.vstack([taken, _grown(boxes[best])])
    return placed


def _candidates(point: Point, width: float, height: float) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes around a point, the ones to the right of it first."""
    boxes, distances = [], []
    for radius in RADII:
        for step in range(ANGLES):
            angle = 2 * math.pi * step / ANGLES
            x, y = point.x + radius * math.cos(angle), point.y + radius * math.sin(angle)
            # The box hangs on the side of the place that looks away from the point.
            left = x - width * (1 - math.cos(angle)) / 2
            top = y - height * (1 - math.sin(angle)) / 2
            boxes.append((left, top, left + width, top + height))
            distances.append(radius + (0.5 if step else 0.0))
    return np.array(boxes), np.array(distances)


def _crossed(point: Point, boxes: Boxes, placed: Sequence[Label]) -> NDArray[np.float64]:
    """How many labels lie on the way from the point to each box."""
    counts = np.zeros(len(boxes))
    centres = np.column_stack([(boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2])
    for share in (0.25, 0.5):
        x, y = point.x + share * (centres[:, 0] - point.x), point.y + share * (centres[:, 1] - point.y)
        for label in placed:
            box = label.box
            counts += (box.left < x) & (x < box.right) & (box.top < y) & (y < box.bottom)
    return counts


def _array(boxes: Sequence[Box]) -> Boxes:
    return np.array([(box.left, box.top, box.right, box.bottom) for box in boxes], dtype=np.float64).reshape(-1, 4)


def _grown(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(box + np.array([-GAP, -GAP, GAP, GAP]))


def _inside(boxes: Boxes, bounds: Box) -> NDArray[np.bool_]:
    return np.asarray(
        (boxes[:, 0] >= bounds.left)
        & (boxes[:, 1] >= bounds.top)
        & (boxes[:, 2] <= bounds.right)
        & (boxes[:, 3] <= bounds.bottom)
    )


def _overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.bool_]:
    a, b = boxes[:, None, :], others[None, :, :]
    return np.asarray(
        (a[..., 0] < b[..., 2]) & (b[..., 0] < a[..., 2]) & (a[..., 1] < b[..., 3]) & (b[..., 1] < a[..., 3])
    )


def spread_labels(wanted: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Places for labels in a column: as near as can be to the wanted ones, and at least ``gap`` apart.

    Args:
        wanted: Heights in pixels, in any order.
        low: First height that may be used.
        high: Last one.
        gap: Between two labels.

    Returns:
        Heights in the order of ``wanted``.

    Raises:
        ValueError: There is no room for so many.
    """
    if len(wanted) and (len(wanted) - 1) * gap > high - low + 1e-9:
        raise ValueError(f"{len(wanted)} labels need {(len(wanted) - 1) * gap:.0f} px; there are {high - low:.0f}.")
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    # Take the gaps away: then the heights need only be in order, which the running mean of blocks gives.
    blocks: list[tuple[float, int]] = []
    for rank, at in enumerate(order):
        height, number = wanted[at] - rank * gap, 1
        while blocks and blocks[-1][0] > height:
            before, many = blocks.pop()
            height = (height * number + before * many) / (number + many)
            number += many
        blocks.append((height, number))
    room = high - (len(wanted) - 1) * gap
    flat = [min(max(height, low), room) for height, number in blocks for _ in range(number)]
    places = [0.0] * len(wanted)
    for rank, at in enumerate(order):
        places[at] = flat[rank] + rank * gap
    return places
