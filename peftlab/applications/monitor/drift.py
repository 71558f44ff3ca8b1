"""Drift: whether the last days speak of other topics than the days before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.applications.monitor.baseline import Floats

RECENT_DAYS, EARLIER_DAYS = 7, 28
LEAST_RECENT, LEAST_EARLIER = 3, 6
PERMUTATIONS = 999


@dataclass(frozen=True)
class Drift:
    """How far topics have moved.

    Args:
        distance: Total variation of the shares, 0 to 1: so large a part of the texts has another topic now.
        p_value: How often days in another order are as far apart.
        earlier: Share of each topic before.
        recent: Share of each topic now.
    """

    distance: float
    p_value: float
    earlier: dict[str, float]
    recent: dict[str, float]


def find_drift(counts: Floats, topics: Sequence[str]) -> Drift | None:
    """Compare the last days with those before them.

    Texts of a day go together, so days are what is permuted, and not texts: a test over texts would see a drift in
    every event of one day.

    Args:
        counts: Topics × days, the last day last.
        topics: Their names.

    Returns:
        None where there are too few days with texts.
    """
    days = np.flatnonzero(counts.sum(0) > 0)
    border = counts.shape[1] - RECENT_DAYS
    is_recent = days >= border
    if is_recent.sum() < LEAST_RECENT or (~is_recent).sum() < LEAST_EARLIER:
        return None
    used = counts[:, days]
    distance = _distance(used, is_recent)
    random = np.random.default_rng(0)
    others = [_distance(used, random.permutation(is_recent)) for _ in range(PERMUTATIONS)]
    p_value = (1 + sum(other >= distance - 1e-12 for other in others)) / (PERMUTATIONS + 1)
    earlier, now = (_shares(used[:, chosen]) for chosen in (~is_recent, is_recent))
    return Drift(
        distance,
        p_value,
        dict(zip(topics, earlier.tolist(), strict=True)),
        dict(zip(topics, now.tolist(), strict=True)),
    )


def _shares(counts: Floats) -> Floats:
    return np.asarray(counts.sum(1) / counts.sum())


def _distance(counts: Floats, is_recent: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float(0.5 * np.abs(_shares(counts[:, is_recent]) - _shares(counts[:, ~is_recent])).sum())
