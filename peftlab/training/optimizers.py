"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import is_matrix
from peftlab.training.hooks import HookList
from peftlab.training.training_config import Optimizer, TrainingConfig


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
    """
    tables = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Embedding)}
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
    return _BUILDERS[config.optimizer](groups, learning_rate)


def _build_adamw(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def _build_sgd(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9)


def _build_adafactor(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """Adafactor (https://arxiv.org/abs/1804.04235) with the recipe's rate, not one that it makes up by itself."""
    from transformers.optimization import Adafactor

    optimizer: torch.optim.Optimizer = Adafactor(  # type: ignore[no-untyped-call]
        groups, lr=learning_rate, scale_parameter=False, relative_step=False, warmup_init=False
    )
    return optimizer


def _build_galore(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    from peftlab.training.galore import build_galore

    return build_galore(groups, learning_rate)


def _builder_of_bitsandbytes(class_name: str) -> OptimizerBuilder:
    def build(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
        try:
            import bitsandbytes
        except ImportError as error:
            raise UnsupportedError(
                f"{class_name} needs bitsandbytes, which cannot be imported: {error}",
                where="training.optimizer",
                hint="pip install bitsandbytes, or choose `adamw`.",
            ) from None
        optimizer: torch.optim.Optimizer = getattr(bitsandbytes.optim, class_name)(groups, lr=learning_rate)
        return optimizer

    return build


OptimizerBuilder = Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]

_BUILDERS: dict[Optimizer, OptimizerBuilder] = {
    "adamw": _build_adamw,
    "sgd": _build_sgd,
    "adafactor": _build_adafactor,
    "adamw_8bit": _builder_of_bitsandbytes("AdamW8bit"),
    "paged_adamw_8bit": _builder_of_bitsandbytes("PagedAdamW8bit"),
    "galore_adamw": _build_galore,
    "lion_8bit": _builder_of_bitsandbytes("Lion8bit"),
}


def learning_rate_schedule(config: TrainingConfig, peak: float, total_steps: int) -> Callable[[int], float]:
    """The learning rate of each step, from 1; a function of the step alone, so that resuming needs no state.

    Warm-up rises linearly and reaches the peak at its last step; the first step already moves (a rate of 0 would waste
    it). After it the rate is constant, or falls to 0 behind the last step: linearly, or along half a cosine
    (https://arxiv.org/abs/1608.03983).
    """
    warmup = math.ceil(config.warmup_fraction * total_steps)

    def rate(step: int) -> float:
        if step <= warmup:
            return peak * step / warmup
        progress = (step - 1 - warmup) / max(1, total_steps - warmup)
        if config.schedule == "linear":
            return peak * (1 - progress)
        if config.schedule == "cosine":
            return peak * (1 + math.cos(math.pi * progress)) / 2
        return peak

    return rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate, times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)
