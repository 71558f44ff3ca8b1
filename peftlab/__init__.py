"""peftlab: parameter-efficient fine-tuning that measures what it claims.

The public Python API. Names are imported when they are first used, so that ``import peftlab`` stays cheap.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftlab.core.metric import METRICS, Metric
    from peftlab.errors import PeftlabError
    from peftlab.interfaces import METHODS, TASKS, Method, MethodContext, ModelFacts, TargetModules, Task
    from peftlab.methods._wrap import wrap
    from peftlab.recipe import Recipe, load_recipe
    from peftlab.record import Guard, RunRecord, read_record
    from peftlab.run import RunResult, run_recipe

__version__ = version("peftlab")

_HOMES = {
    "PeftlabError": "errors",
    "METHODS": "interfaces",
    "METRICS": "core.metric",
    "Metric": "core.metric",
    "TASKS": "interfaces",
    "Method": "interfaces",
    "MethodContext": "interfaces",
    "ModelFacts": "interfaces",
    "TargetModules": "interfaces",
    "Task": "interfaces",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "Guard": "record",
    "RunRecord": "record",
    "read_record": "record",
    "RunResult": "run",
    "run_recipe": "run",
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
