"""What another policy would have earned, told from lists that were shown with known chances.

A policy draws a list from scores, place by place: the chance of an item is proportional to exp(score / temperature)
among those that are left (Plackett and Luce). The chance of each place, given those above it, is logged. A choice at a
place is taken to depend on the items down to it (the reward interaction model, McInerney and others, KDD 2020), so its
weight is the product of the ratios of chances down to there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.means import mean_of_clusters

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Choices a list: a mean with a 95 % interval.

    Args:
        value: The estimate.
        low: Lower end.
        high: Upper end.
        lists: How many were looked at.
        effective: How many lists of the other policy say as much (Kish), at the last place.
    """

    value: float
    low: float
    high: float
    lists: int
    effective: float


def draw_list(scores: Floats, count: int, temperature: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Places of a list that is drawn from scores, by Gumbel's trick; a tiny temperature sorts."""
    noise = random.gumbel(size=len(scores))
    with np.errstate(over="ignore"):
        worth = (scores - scores.max(initial=-np.inf)) / temperature
    return np.argsort(-(worth + noise), kind="stable")[:count].astype(np.int64)


def chances_of(scores: Floats, places: Sequence[int], temperature: float) -> Floats:
    """The chance of each place of a list, given the places above it.

    Args:
        scores: Of all items that could have been drawn.
        places: The list, as places in ``scores``.
        temperature: Of the policy.
    """
    worth = np.asarray(scores, np.float64)
    free = np.ones(len(worth), bool)
    found = []
    for place in places:
        most = worth[free].max()
        with np.errstate(over="ignore"):  # by a tiny temperature all but the best are infinitely far away
            found.append(np.exp((worth[place] - most) / temperature) / np.exp((worth[free] - most) / temperature).sum())
        free[place] = False
    return np.array(found)


def ratios_of(old: Floats, new: Floats) -> Floats:
    """Weights of each place: lists × places, from the chances under the policy that was and the one that is asked."""
    return np.cumprod(new / old, axis=1).astype(np.float64)


def estimate_plain(weights: Floats, rewards: Floats, users: Sequence[str]) -> Estimate:
    """Inverse propensity scores: right on average, and uncertain where the policies differ much.

    Args:
        weights: Lists × places, of :func:`ratios_of`.
        rewards: Lists × places: 1 where the item was chosen.
        users: Who saw each list: lists of one user are alike, and say less than as many of several users.
    """
    mean = mean_of_clusters((weights * rewards).sum(axis=1), users)
    return Estimate(mean.value, mean.low, mean.high, len(weights), effective_lists(weights))


def estimate_normalized(weights: Floats, rewards: Floats, users: Sequence[str]) -> Estimate:
    """Self-normalised: a little bias, and far less variance (Swaminathan and Joachims, NIPS 2015).

    The interval is that of the linearised ratio. Arguments are those of :func:`estimate_plain`.
    """
    total = weights.mean(axis=0)
    by_place = (weights * rewards).mean(axis=0) / total
    influence = ((weights / total) * (rewards - by_place)).sum(axis=1)
    mean = mean_of_clusters(influence + by_place.sum(), users)
    return Estimate(float(by_place.sum()), mean.low, mean.high, len(weights), effective_lists(weights))


def effective_lists(weights: Floats) -> float:
    """Kish's effective number at the last place."""
    last = weights[:, -1]
    return float(last.sum() ** 2 / (last**2).sum()) if last.any() else 0.0
