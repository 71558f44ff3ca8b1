"""The JSON Schema of a recipe, for editors."""

from __future__ import annotations

from typing import Any

from peftlab.core.augmentation import AUGMENTATIONS, Augmentation
from peftlab.core.definitions import define
from peftlab.core.method import METHODS, Method
from peftlab.core.optimizer import OptimizerConfig
from peftlab.core.registry import Registry
from peftlab.core.regularizer import REGULARIZERS, Regularizer
from peftlab.core.reward import REWARD_SCHEMA, REWARDS
from peftlab.core.schedule import SCHEDULES, Schedule
from peftlab.core.task import TASKS, Task
from peftlab.data.data_config import DataConfig
from peftlab.recipe.schema import Recipe
from peftlab.training.training_config import TrainingConfig

_SECTIONS: tuple[tuple[str, Registry[Any]], ...] = (("task", TASKS), ("method", METHODS))


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, with every registered task, method, reward, regulariser and augmentation."""
    schema = Recipe.model_json_schema(mode="validation")
    definitions = schema.setdefault("$defs", {})
    for built in (Task, Method, Regularizer, OptimizerConfig, Schedule, Augmentation):
        definitions.pop(built.__name__, None)
    for key, registry in _SECTIONS:
        description = schema["properties"][key].get("description", "")
        schema["properties"][key] = {"description": description, "oneOf": _choices(registry, key, definitions)}
    rewards = {"oneOf": _choices(REWARDS, "reward", definitions)}
    for own in (definitions[f"task.{name}"]["properties"] for name in TASKS):
        for field in own.values():
            if field.get("items") == REWARD_SCHEMA:
                field["items"] = rewards
    sections = definitions[TrainingConfig.__name__]["properties"]
    sections["schedule"]["anyOf"] = [{"enum": SCHEDULES.names()}, *_choices(SCHEDULES, "schedule", definitions)]
    # Which optimizers there are depends on the versions of their packages; the schema is the same everywhere.
    written = {"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"]}
    sections["optimizer"]["anyOf"] = [{"type": "string"}, written]
    sections["regularizers"]["items"] = {"oneOf": _choices(REGULARIZERS, "regularizer", definitions)}
    augmentation = definitions[DataConfig.__name__]["properties"]["augmentation"]
    augmentation["items"] = {"oneOf": _choices(AUGMENTATIONS, "augmentation", definitions)}
    schema["required"] = [name for name in schema["required"] if name != "name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "peftlab recipe"}


def _choices(registry: Registry[Any], key: str, definitions: dict[str, Any]) -> list[dict[str, str]]:
    """References to the schema of every class of a registry; the schemas are put under the definitions."""
    return [define(f"{key}.{name}", cls, definitions) for name, cls in registry.items()]
