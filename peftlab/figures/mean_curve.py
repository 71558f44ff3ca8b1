"""Curves thinned to what a figure can show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

POINTS = 48
"""More points than this on a curve cannot be told apart in a figure; values are averaged between them."""


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean of several curves, such as one per seed.

    Points of equal x are averaged; a long curve is cut into stretches of x, and each is averaged.

    Args:
        curves: Points (x, y) in the order of x.

    Returns:
        At most ``POINTS`` points.
    """
    points = np.array([point for curve in curves for point in curve if None not in point], dtype=np.float64)
    if not len(points):
        return []
    points = points[np.isfinite(points).all(axis=1)]
    steps, places = np.unique(points[:, 0], return_inverse=True)
    if len(steps) > POINTS:
        edges = np.linspace(steps[0], steps[-1], POINTS + 1)
        places = np.clip(np.searchsorted(edges, points[:, 0], side="right") - 1, 0, POINTS - 1)
    counts = np.bincount(places)
    kept = counts > 0
    means = [np.bincount(places, weights=points[:, axis])[kept] / counts[kept] for axis in (0, 1)]
    return [(float(x), float(y)) for x, y in zip(*means, strict=True)]
