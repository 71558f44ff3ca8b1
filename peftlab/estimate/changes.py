"""Changes of a recipe that take less memory, the cheapest first: in accuracy, then in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peftlab.core.errors import UnsupportedError
from peftlab.preparation.check import CheckedModel


@dataclass(frozen=True)
class Change:
    """A change of a recipe.

    Args:
        settings: What to set, as for ``--set``.
        effect: What it costs.
    """

    settings: Mapping[str, Any]
    effect: str

    def and_also(self, other: Change) -> Change:
        """Both changes at once."""
        effects = dict.fromkeys([*self.effect.split("; "), *other.effect.split("; ")])
        return Change({**self.settings, **other.settings}, "; ".join(effects))


def possible_changes(checked: CheckedModel, batch_size: int, *, evaluation_is_most: bool) -> list[Change]:
    """What can be changed about a recipe.

    Args:
        checked: The recipe and its model.
        batch_size: Examples that are computed at once now.
        evaluation_is_most: Whether no other phase takes as much memory.
    """
    recipe, changes = checked.recipe, []
    training, method = recipe.training, recipe.method
    if evaluation_is_most and recipe.evaluation.batch_size != 1:
        changes.append(Change({"evaluation.batch_size": 1}, "same result; evaluation takes longer"))
    if batch_size > 1 and not recipe.task.computes_in_parts:
        changes.append(
            Change({"training.batch_size": max(1, batch_size // 4)}, "another result: fewer examples are compared")
        )
    elif batch_size > 1 and training.micro_batch_size != "auto":
        changes.append(
            Change({"training.micro_batch_size": max(1, batch_size // 4)}, "same result; more and smaller products")
        )
    if method.supports_gradient_checkpointing and not training.gradient_checkpointing:
        changes.append(Change({"training.gradient_checkpointing": True}, "same result; activations are computed twice"))
    if training.optimizer == "adamw":
        changes.append(Change({"training.optimizer": "adamw_8bit"}, "the optimizer's state in 8 bits"))
    if recipe.model.quantization is None and _can_be_quantized(checked):
        changes.append(Change({"model.quantization": "nf4"}, "the base's matrices in 4 bits; slower"))
    if method.trains_base:
        changes.append(
            Change({"method.type": "lora", "model.quantization": "nf4"}, "another method, on a base in 4 bits")
        )
    return changes


def _can_be_quantized(checked: CheckedModel) -> bool:
    try:
        checked.recipe.method.check_quantization("nf4")
    except UnsupportedError:
        return False
    return True
