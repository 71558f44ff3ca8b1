"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from peftlab.core.added_rows import AddedRows
from peftlab.core.errors import PluginError
from peftlab.core.given_values import check_kind, number_of
from peftlab.core.method import is_matrix
from peftlab.core.schedule import Place
from peftlab.training.hooks import HookList
from peftlab.training.optimizer_choice import optimizer_config, schedule_config
from peftlab.training.training_config import TrainingConfig


def build_optimizer(
    model: nn.Module, config: TrainingConfig, learning_rate: float, *, hooks: HookList | None = None
) -> torch.optim.Optimizer:
    """The optimizer over the parameters that require a gradient.

    Args:
        model: Wrapped by the method.
        config: The recipe's section.
        learning_rate: The peak.
        hooks: Say which parameters decay, and which have another rate; None: matrices decay, and all rates are equal.

    Raises:
        UnsupportedError: The optimizer's package cannot be imported.
        PluginError: What is built is no optimizer.
    """
    tables = {id(layer.weight) for layer in model.modules() if isinstance(layer, (nn.Embedding, AddedRows))}
    kinds: dict[str, dict[float, list[nn.Parameter]]] = {"embeddings": {}, "matrices": {}, "vectors": {}}
    decays, factors = (is_matrix, {}) if hooks is None else (hooks.decays, hooks.rate_factors(model))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matrix = "embeddings" if id(parameter) in tables else "matrices"
            kind = kinds[matrix if decays(name, parameter) else "vectors"]
            kind.setdefault(factors.get(name, 1.0), []).append(parameter)
    groups = [
        {
            "params": parameters,
            "weight_decay": 0.0 if kind == "vectors" else config.weight_decay,
            "low_rank": kind == "matrices",
            "rate_factor": factor,
        }
        for kind, of_kind in kinds.items()
        for factor, parameters in of_kind.items()
    ]
    chosen = optimizer_config(config.optimizer)
    optimizer = chosen.build(groups, learning_rate, model)
    check_kind(
        optimizer, torch.optim.Optimizer, what=f"build of {chosen.registered_name}", hint="Return the optimizer."
    )
    return optimizer


def learning_rate_schedule(config: TrainingConfig, peak: float, total_steps: int) -> Callable[[int], float]:
    """The learning rate of each step, from 1; a function of the step alone, so that resuming needs no state.

    Warm-up rises linearly and reaches the peak at its last step; the first step already moves (a rate of 0 would waste
    it). After it the rate is what the schedule says.
    """
    warmup = math.ceil(config.warmup_fraction * total_steps)
    schedule = schedule_config(config.schedule)

    def rate(step: int) -> float:
        if step <= warmup:
            return peak * step / warmup
        what = f"the schedule `{schedule.registered_name}`"
        factor = number_of(schedule.factor(Place(step - 1, warmup, total_steps)), what=what)
        if not 0 <= factor < math.inf:
            raise PluginError(
                f"{what} has given {factor} for step {step} of {total_steps}",
                hint="A share of the peak is a number that is not below 0: below, the model would climb.",
            )
        return peak * factor

    return rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate, times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)
