"""Parts of a recipe whose class its ``type`` names: each is built by its own registry, with its own lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlab.core.augmentation import AUGMENTATIONS
from peftlab.core.config import Document, KeyPath, RegisteredConfig, build_config
from peftlab.core.optimizer import OPTIMIZERS
from peftlab.core.registry import Registry
from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.schedule import SCHEDULES


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


def with_training_parts(values: Mapping[str, Any], document: Document) -> dict[str, Any]:
    """The section ``training`` with its regularisers, optimizer and schedule built; empty where it has none."""
    training = values.get("training")
    if not isinstance(training, Mapping):
        return {}
    built: dict[str, Any] = {}
    if isinstance(training.get("regularizers"), list):
        path = ("training", "regularizers")
        built["regularizers"] = _build_list(REGULARIZERS, training["regularizers"], document, path)
    parts: tuple[tuple[str, Registry[Any]], ...] = (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES))
    for key, registry in parts:
        if isinstance(training.get(key), Mapping):
            built[key] = build_registered(registry, training[key], document, ("training", key))
    return {"training": {**training, **built}} if built else {}


def with_augmentations(values: Mapping[str, Any], document: Document) -> dict[str, Any]:
    """The section ``data`` with its augmentations built; empty where it has none."""
    data = values.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("augmentation"), list):
        return {}
    built = _build_list(AUGMENTATIONS, data["augmentation"], document, ("data", "augmentation"))
    return {"data": {**data, "augmentation": built}}


def _build_list(registry: Registry[Any], values: list[Any], document: Document, path: KeyPath) -> list[Any]:
    return [build_registered(registry, each, document, (*path, position)) for position, each in enumerate(values)]
