"""Whether a proposed recipe can fit into this machine's memory, and about how long it will take."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from peftlab.core.amounts import duration, size
from peftlab.core.errors import PeftlabError
from peftlab.recipe.schema import Recipe

UTILIZATION = 0.35
"""Share of the rate of plain matrix products that training reaches on CPUs, as this project's runs measured it."""
TRAINING, EVALUATION = 2.0, 0.5
"""Forward passes that a step of training is worth where the base is frozen; and an epoch's share for evaluation."""


def notes_of_fit(values: Mapping[str, Any], *, mean_tokens: float, rows: int, offline: bool) -> list[str]:
    """Sentences about a recipe's memory and time; the memory is a lower bound, as `peftlab estimate` takes longer.

    Args:
        values: A recipe, its data at an address that holds from the working directory.
        mean_tokens: Of a training text.
        rows: To train on.
        offline: Forbid the network.
    """
    from peftlab.core.config import Document
    from peftlab.estimate.bounds import least_bytes
    from peftlab.estimate.target import find_target
    from peftlab.preparation.check import check_model

    recipe, target = Recipe.from_dict(values), find_target()
    try:
        checked = check_model(recipe, Document(recipe.name, dict(values)), offline=offline, need_weights=False)
    except PeftlabError as error:
        return [f"memory and time are not known: {error.message}"]
    notes = []
    least = least_bytes(checked.recipe, checked.facts, device=target.name)
    if least is not None and target.memory_bytes is not None and least > target.memory_bytes:
        notes.append(
            f"it takes {size(least)} at least, and {target.name} has {size(target.memory_bytes)}: `peftlab estimate` "
            "tells what would fit"
        )
    if recipe.training.epochs:
        texts = rows * recipe.training.epochs * (TRAINING + EVALUATION)
        seconds = texts * mean_tokens * _flops_of_token(checked.facts.config) / (_matmul_rate() * UTILIZATION)
        notes.append(f"about {duration(max(seconds, 10.0))} of training and evaluation on this machine as it is now")
    return notes


@functools.cache
def _matmul_rate() -> float:
    import torch

    from peftlab.core.devices import choose_device
    from peftlab.measurement.roofline import measure_matmul_rate

    return measure_matmul_rate(choose_device("auto"), torch.float32)


def _flops_of_token(config: Mapping[str, Any]) -> float:
    """FLOPs of a token's forward pass, by the usual sizes of a transformer's layers."""
    hidden, layers = config.get("hidden_size") or 768, config.get("num_hidden_layers") or 12
    return float(2 * 12 * hidden * hidden * layers)
