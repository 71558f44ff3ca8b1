"""peftlab: parameter-efficient fine-tuning that measures what it claims.

The public Python API. Names are imported when they are first used, so that ``import peftlab`` stays cheap.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftlab.core.errors import PeftlabError
    from peftlab.core.method import METHODS, Method, MethodContext, TargetModules
    from peftlab.core.metric import METRICS, Metric
    from peftlab.core.model_facts import ModelFacts
    from peftlab.core.record import Guard, RunRecord, read_record
    from peftlab.core.task import TASKS, Task
    from peftlab.methods._wrap import wrap
    from peftlab.recipe.schema import Recipe, load_recipe
    from peftlab.run.run import RunResult, run_recipe

__version__ = version("peftlab")

_HOMES = {
    "PeftlabError": "core.errors",
    "METHODS": "core.method",
    "METRICS": "core.metric",
    "Metric": "core.metric",
    "TASKS": "core.task",
    "Method": "core.method",
    "MethodContext": "core.method",
    "ModelFacts": "core.model_facts",
    "TargetModules": "core.method",
    "Task": "core.task",
    "Recipe": "recipe.schema",
    "load_recipe": "recipe.schema",
    "Guard": "core.record",
    "RunRecord": "core.record",
    "read_record": "core.record",
    "RunResult": "run.run",
    "run_recipe": "run.run",
    "wrap": "methods._wrap",
}

__all__ = [
    "METHODS",
    "METRICS",
    "TASKS",
    "Guard",
    "Method",
    "MethodContext",
    "Metric",
    "ModelFacts",
    "PeftlabError",
    "Recipe",
    "RunRecord",
    "RunResult",
    "TargetModules",
    "Task",
    "__version__",
    "load_recipe",
    "read_record",
    "run_recipe",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `peftlab` has no attribute `{name}`")
    return getattr(importlib.import_module(f"peftlab.{_HOMES[name]}"), name)
