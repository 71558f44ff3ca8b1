"""How training by preferences or rewards went.

Whether it began at its reference, and whether what is optimised rose while what counts fell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peftlab.core.record import Guard
from peftlab.tasks.preference.losses import Responses

NEAR_ZERO = 0.05
"""Nats a token, the mean of a response. Other batches in half precision change 0.02 at most (SmolLM2-135M in bfloat16,
32 responses); a wrong reference is many times farther away."""


def guard_of_start(responses: Responses) -> Guard:
    """Whether a model that starts as its base says before the first step what the reference says."""
    away = float((responses.log_ratios / responses.counts).abs().max())
    return Guard.check(
        away <= NEAR_ZERO, f"before the first step a token is {away:.1e} nats from the reference at most"
    )


def margin_without_accuracy(log: Sequence[Mapping[str, Any]]) -> str | None:
    """A sentence where held-out margins grew to the end, and the held-out accuracy fell from its best.

    Args:
        log: The lines of ``metrics.jsonl``.
    """
    found = [line["validation"] for line in log if "reward_accuracy" in line.get("validation", {})]
    if len(found) < 2:
        return None
    best, last = max(found, key=lambda scores: scores["reward_accuracy"]), found[-1]
    if last["reward_accuracy"] >= best["reward_accuracy"] or last["reward_margin"] <= best["reward_margin"]:
        return None
    return (
        f"margins grew from {best['reward_margin']:.3g} to {last['reward_margin']:.3g} on the validation split while "
        f"the accuracy of rewards fell from {best['reward_accuracy']:.1%} to {last['reward_accuracy']:.1%}: the model "
        "learns its training pairs by heart"
    )


def reward_without_score(log: Sequence[Mapping[str, Any]], metric: str) -> str | None:
    """A sentence where the rewards of what the model writes rose, and a held-out score fell from its best.

    Args:
        log: The lines of ``metrics.jsonl``.
        metric: A score of which higher is better.
    """
    rewards = [float(line["reward"]) for line in log if "reward" in line]
    scores = [float(line["validation"][metric]) for line in log if metric in line.get("validation", {})]
    if len(rewards) < 6 or len(scores) < 2:
        return None
    third = len(rewards) // 3
    first, last = (sum(part) / third for part in (rewards[:third], rewards[-third:]))
    if last <= first or scores[-1] >= max(scores):
        return None
    return (
        f"rewards rose from {first:.3g} to {last:.3g} in training while {metric} fell from {max(scores):.3g} to "
        f"{scores[-1]:.3g} on the validation split: look at what the model writes, it may have found what the reward "
        "pays for without being better"
    )
