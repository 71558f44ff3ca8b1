"""Parts of a recipe whose class its ``type`` names: each is built by its own registry, with its own lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlab.core.augmentation import AUGMENTATIONS
from peftlab.core.config import Config, Document, KeyPath, RegisteredConfig, build_config
from peftlab.core.errors import ConfigError, UserError
from peftlab.core.method import METHODS
from peftlab.core.optimizer import OPTIMIZERS
from peftlab.core.registry import Registry
from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.schedule import SCHEDULES
from peftlab.core.task import TASKS
from peftlab.data.data_config import DataConfig
from peftlab.models.model_config import ModelConfig
from peftlab.training.training_config import EvaluationConfig, TrainingConfig

REGISTERED: Mapping[str, Registry[Any]] = {"task": TASKS, "method": METHODS}
SECTIONS: Mapping[str, type[Config]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
}
"""Those that have one class."""
BUILT_HERE = ("data", "training")
"""Sections in which parts are named by a ``type``: one whose parts could not be built is told by these alone."""


def build_registered(registry: Registry[Any], values: Any, document: Document, path: KeyPath) -> Any:
    """An object of the class that ``type`` names.

    Raises:
        ConfigError: With file, line and key.
    """
    if isinstance(values, RegisteredConfig):
        return values
    if not isinstance(values, Mapping):
        kind = values if isinstance(values, str) and values in registry.names() else "…"
        written = f"[{{type: {kind}}}]" if isinstance(path[-1], int) else f"{{type: {kind}}}"
        key = next(part for part in reversed(path) if isinstance(part, str))
        raise document.error(path, f"a mapping is needed, not {values!r}", f"Write `{key}: {written}`.")
    if "type" not in values:
        raise document.error(path, "the key `type` is required", f"Known: {', '.join(registry.names())}.")
    cls = registry.get(values["type"], where=document.where((*path, "type")))
    return build_config(cls, values, document=document, path=path, known=["type", *cls.model_fields])


def build_parts(values: dict[str, Any], document: Document) -> None:
    """Build what is named by a ``type``, in its place; mistakes of several sections are told together.

    Args:
        values: A recipe's; changed in place.
        document: For the line numbers of messages.

    Raises:
        ConfigError: With file, line and key.
    """
    built: dict[str, Any] = {}
    problems: list[UserError] = []
    for key, section in values.items():
        try:
            if key in REGISTERED:
                built[key] = build_registered(REGISTERED[key], section, document, (key,))
            elif key == "training" and isinstance(section, Mapping):
                built[key] = _with_training_parts(section, document)
            elif key == "data" and isinstance(section, Mapping):
                built[key] = _with_augmentations(section, document)
        except UserError as problem:
            problems.append(problem)
    if not problems:
        values |= built
        return
    for key, kind in SECTIONS.items():
        if key in values and values[key] is not None and (key in built or key not in BUILT_HERE):
            try:
                build_config(kind, built.get(key, values[key]), document=document, path=(key,))
            except ConfigError as problem:
                problems.append(problem)
    first, *others = problems
    message = "\n  ".join([first.message, *filter(None, [first.hint]), *map(str, others)])
    raise ConfigError(message, where=first.where)


def _with_training_parts(training: Mapping[str, Any], document: Document) -> dict[str, Any]:
    """The section ``training`` with its regularisers, optimizer and schedule built."""
    built: dict[str, Any] = {}
    if isinstance(training.get("regularizers"), list):
        path = ("training", "regularizers")
        built["regularizers"] = _build_list(REGULARIZERS, training["regularizers"], document, path)
    parts: tuple[tuple[str, Registry[Any]], ...] = (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES))
    for key, registry in parts:
        if isinstance(training.get(key), Mapping):
            built[key] = build_registered(registry, training[key], document, ("training", key))
    return {**training, **built}


def _with_augmentations(data: Mapping[str, Any], document: Document) -> dict[str, Any]:
    """The section ``data`` with its augmentations built."""
    if not isinstance(data.get("augmentation"), list):
        return dict(data)
    return {
        **data,
        "augmentation": _build_list(AUGMENTATIONS, data["augmentation"], document, ("data", "augmentation")),
    }


def _build_list(registry: Registry[Any], values: list[Any], document: Document, path: KeyPath) -> list[Any]:
    return [build_registered(registry, each, document, (*path, position)) for position, each in enumerate(values)]
