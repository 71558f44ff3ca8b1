"""``peftlab ls``: what there is."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.core.reporter import tell


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    TASKS = "tasks"
    REGULARIZERS = "regularizers"
    OPTIMIZERS = "optimizers"
    SCHEDULES = "schedules"
    AUGMENTATIONS = "augmentations"
    REWARDS = "rewards"
    AUDITS = "audits"
    PERTURBATIONS = "perturbations"
    STRATEGIES = "strategies"
    MODELS = "models"
    METRICS = "metrics"
    RECIPES = "recipes"
    APPLICATIONS = "applications"


def ls(
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="KIND", help=f"What to list: {', '.join(Kind)}.", show_choices=False, show_default=False
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List methods, tasks, optimizers, schedules, rewards, audits, models, metrics, recipes and more, one a line."""
    entries, notes = _LISTS[kind]()
    if as_json:
        print(json.dumps({kind.value: entries, **({"broken": notes} if notes else {})}, indent=2))
        return
    width = max((len(entry["name"]) for entry in entries), default=0)
    for entry in entries:
        print(f"{entry['name']:<{width}}  {entry['description']}")
    if kind is Kind.MODELS:
        tell("Not only these: model.path takes the Hub id, the folder or the .gguf file of other models too, or a run.")
    for name, why in notes.items():
        typer.echo(f"The plugin `{name}` could not be loaded: {why}", err=True)


def _registered(registry: Any) -> tuple[list[dict[str, str]], dict[str, str]]:
    entries = [
        {
            "name": name,
            "description": (cls.__doc__ or "").strip().split("\n")[0],
            **({"paper": cls.paper} if getattr(cls, "paper", "") else {}),
        }
        for name, cls in registry.items()
    ]
    return entries, dict(registry.broken)


def _methods() -> tuple[list[dict[str, str]], dict[str, str]]:
    from peftlab.core.method import METHODS

    return _registered(METHODS)


def _tasks() -> tuple[list[dict[str, str]], dict[str, str]]:
    from peftlab.core.task import TASKS

    return _registered(TASKS)


def _regularizers() -> tuple[list[dict[str, Any]], dict[str, str]]:
    from pydantic import ValidationError

    from peftlab.core.regularizer import REGULARIZERS

    entries, broken = _registered(REGULARIZERS)
    costs: dict[str, dict[str, Any]] = {}
    for name, cls in REGULARIZERS.items():
        try:
            whole = cls().passes_of(trains_base=True)
        except ValidationError:  # it has no default settings
            whole = cls.passes
        costs[name] = {"passes": cls.passes, "passes_in_full_tuning": round(whole, 2), "memory": cls.memory}
    for entry in entries:
        cost = costs[entry["name"]]
        passes, whole = cost["passes"], cost["passes_in_full_tuning"]
        shown = f"{passes:g}" + (f" ({whole:g} in full tuning)" if whole != passes else "")
        entry["description"] += f" Passes: {shown}; memory: {cost['memory']}."
    return [{**entry, **costs[entry["name"]]} for entry in entries], broken


def _optimizers() -> tuple[list[dict[str, Any]], dict[str, str]]:
    from peftlab.core.optimizer import OPTIMIZERS

    entries, broken = _registered(OPTIMIZERS)
    return [{**entry, "keys": list(OPTIMIZERS[entry["name"]].model_fields)} for entry in entries], broken


def _schedules() -> tuple[list[dict[str, Any]], dict[str, str]]:
    from peftlab.core.schedule import SCHEDULES

    return _registered(SCHEDULES)


def _augmentations() -> tuple[list[dict[str, Any]], dict[str, str]]:
    from peftlab.core.augmentation import AUGMENTATIONS

    return _registered(AUGMENTATIONS)


def _rewards() -> tuple[list[dict[str, Any]], dict[str, str]]:
    from peftlab.core.reward import REWARDS

    return _registered(REWARDS)


def _audits() -> tuple[list[dict[str, Any]], dict[str, str]]:
    from peftlab.core.audit import AUDITS

    return _registered(AUDITS)


def _perturbations() -> tuple[list[dict[str, Any]], dict[str, str]]:
    from peftlab.core.perturbation import PERTURBATIONS

    return _registered(PERTURBATIONS)


def _strategies() -> tuple[list[dict[str, Any]], dict[str, str]]:
    from peftlab.core.selection import STRATEGIES

    return _registered(STRATEGIES)


def _metrics() -> tuple[list[dict[str, str]], dict[str, str]]:
    from peftlab.core.metric import METRICS
    from peftlab.core.task import TASKS

    entries, broken = _registered(METRICS)
    for entry in entries:
        metric = METRICS[entry["name"]]
        users = [name for name, task in TASKS.items() if entry["name"] in task.metrics or name in metric.tasks]
        entry["description"] += f" {'Higher' if metric.higher_is_better else 'Lower'} is better."
        entry["description"] += f" ({', '.join(users) or 'no task'})"
    return entries, broken


def _models() -> tuple[list[dict[str, str]], dict[str, str]]:
    from peftlab.models.catalogue import MODELS

    return [{"name": name, "description": text} for name, text in MODELS.items()], {}


def _applications() -> tuple[list[dict[str, str]], dict[str, str]]:
    from peftlab.core.application import APPLICATIONS

    return _registered(APPLICATIONS)


def _recipes() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The recipes below ``recipes/`` in the working directory, and those that come with peftlab."""
    from peftlab.recipe.shipped import comments_of, missing_data, shipped_recipes

    found = {path.as_posix(): path for path in sorted(Path("recipes").rglob("*.yaml"))}
    here = {path.resolve() for path in found.values()}
    found |= {name: path for name, path in shipped_recipes().items() if path not in here}
    entries: list[dict[str, Any]] = []
    for name, path in found.items():
        needs_data = bool(missing_data(path))
        description = next(iter(comments_of(path)), "") + (" (needs data: see the file)" if needs_data else "")
        entries.append({"name": name, "description": description, "needs_data": needs_data})
    return entries, {}


_LISTS = {
    Kind.METHODS: _methods,
    Kind.TASKS: _tasks,
    Kind.REGULARIZERS: _regularizers,
    Kind.OPTIMIZERS: _optimizers,
    Kind.SCHEDULES: _schedules,
    Kind.AUGMENTATIONS: _augmentations,
    Kind.REWARDS: _rewards,
    Kind.AUDITS: _audits,
    Kind.PERTURBATIONS: _perturbations,
    Kind.STRATEGIES: _strategies,
    Kind.MODELS: _models,
    Kind.METRICS: _metrics,
    Kind.RECIPES: _recipes,
    Kind.APPLICATIONS: _applications,
}
