"""What ``training.optimizer`` and ``training.schedule`` may hold: a name, or a mapping with keys of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlab.core.errors import ConfigError
from peftlab.core.optimizer import OPTIMIZERS, OptimizerConfig
from peftlab.core.schedule import SCHEDULES, Schedule
from peftlab.training.optimizer_types.plain import PLAIN


def optimizer_class(chosen: str | OptimizerConfig) -> type[OptimizerConfig]:
    """The class of what a recipe names or configures. The usual names need no look at the libraries."""
    if isinstance(chosen, OptimizerConfig):
        return type(chosen)
    return PLAIN.get(chosen) or OPTIMIZERS[chosen]


def optimizer_config(chosen: str | OptimizerConfig) -> OptimizerConfig:
    """What a recipe configures, or names: then with its defaults."""
    return optimizer_class(chosen)() if isinstance(chosen, str) else chosen


def optimizer_name(chosen: str | OptimizerConfig) -> str:
    """The name."""
    return optimizer_class(chosen).registered_name


def schedule_config(chosen: str | Schedule) -> Schedule:
    """What a recipe configures, or names: then with its defaults."""
    return SCHEDULES[chosen]() if isinstance(chosen, str) else chosen


def checked_optimizer(value: Any) -> Any:
    """A value of ``training.optimizer``; a mapping becomes a configuration.

    Raises:
        ValueError: There is no such optimizer, or the loop cannot give it what it needs.
    """
    try:
        built = _built(OPTIMIZERS, value) if isinstance(value, Mapping) else value
        if isinstance(built, str | OptimizerConfig) and optimizer_class(built).refusal:
            raise ConfigError(
                f"the optimizer `{optimizer_name(built)}` cannot be used: {optimizer_class(built).refusal}"
            )
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return built


def checked_schedule(value: Any) -> Any:
    """A value of ``training.schedule``; a mapping becomes a configuration.

    Raises:
        ValueError: There is no such schedule.
    """
    try:
        if isinstance(value, str):
            SCHEDULES.get(value)
        return _built(SCHEDULES, value) if isinstance(value, Mapping) else value
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _built(registry: Any, value: Mapping[str, Any]) -> Any:
    return registry.get(value.get("type")).model_validate(value)
