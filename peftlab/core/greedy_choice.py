"""Greedy soups: which of several weights go into their mean (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def choose_greedily(scores: Sequence[float], score_of: Callable[[Sequence[int]], float]) -> list[int]:
    """The places of the weights that go into the mean: the best, and each next one that does not make the mean worse.

    Args:
        scores: Of each alone on the validation split; higher is better.
        score_of: The score there of the mean of some, by their places.
    """
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    kept, best = [order[0]], scores[order[0]]
    for at in order[1:]:
        score = score_of([*kept, at])
        if score >= best:
            kept, best = [*kept, at], score
    return sorted(kept)
