"""``peftlab ls``: what there is."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from peftlab.core.reporter import tell

if TYPE_CHECKING:
    from peftlab.core.registry import Registry


Kind = Literal[
    "methods", "tasks", "regularizers", "optimizers", "schedules", "augmentations", "rewards", "audits",
    "perturbations", "strategies", "models", "metrics", "recipes", "applications",
]  # fmt: skip
Listed = tuple[list[dict[str, Any]], dict[str, str]]
"""Entries; and the plugins that could not be loaded, each with the reason."""


def ls(
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="KIND", help=f"What to list: {', '.join(get_args(Kind))}.", show_choices=False, show_default=False
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List methods, tasks, optimizers, schedules, rewards, audits, models, metrics, recipes and more, one a line."""
    entries, notes = _MORE[kind]() if kind in _MORE else _registered(kind)
    if as_json:
        print(json.dumps({kind: entries, **({"broken": notes} if notes else {})}, indent=2))
        return
    width = max((len(entry["name"]) for entry in entries), default=0)
    for entry in entries:
        print(f"{entry['name']:<{width}}  {entry['description']}")
    if kind == "models":
        tell("Not only these: model.path takes the Hub id, the folder or the .gguf file of other models too, or a run.")
    for name, why in notes.items():
        typer.echo(f"The plugin `{name}` could not be loaded: {why}", err=True)


def _registry(kind: Kind) -> Registry[Any]:
    module = "selection" if kind == "strategies" else kind.removesuffix("s")
    registry: Registry[Any] = getattr(importlib.import_module(f"peftlab.core.{module}"), kind.upper())
    return registry


def _registered(kind: Kind) -> Listed:
    registry = _registry(kind)
    entries = [
        {
            "name": name,
            "description": (cls.__doc__ or "").strip().split("\n")[0],
            **({"paper": cls.paper} if getattr(cls, "paper", "") else {}),
        }
        for name, cls in registry.items()
    ]
    return entries, dict(registry.broken)


def _regularizers() -> Listed:
    from peftlab.core.config import WrongSettingsError

    registry = _registry("regularizers")
    entries, broken = _registered("regularizers")
    costs: dict[str, dict[str, Any]] = {}
    for name, cls in registry.items():
        try:
            whole = cls().passes_of(trains_base=True)
        except WrongSettingsError:  # it has no default settings
            whole = cls.passes
        costs[name] = {"passes": cls.passes, "passes_in_full_tuning": round(whole, 2), "memory": cls.memory}
    for entry in entries:
        cost = costs[entry["name"]]
        passes, whole = cost["passes"], cost["passes_in_full_tuning"]
        shown = f"{passes:g}" + (f" ({whole:g} in full tuning)" if whole != passes else "")
        entry["description"] += f" Passes: {shown}; memory: {cost['memory']}."
    return [{**entry, **costs[entry["name"]]} for entry in entries], broken


def _optimizers() -> Listed:
    registry = _registry("optimizers")
    entries, broken = _registered("optimizers")
    for entry in entries:
        optimizer = registry[entry["name"]]
        entry |= {"keys": list(optimizer.model_fields), "follows_rate": optimizer.follows_rate}
        if not (optimizer.follows_rate or optimizer.refusal):
            entry["description"] += " Warm-up and schedule count only in part."
    return entries, broken


def _metrics() -> Listed:
    metrics, tasks = _registry("metrics"), _registry("tasks")
    entries, broken = _registered("metrics")
    for entry in entries:
        metric = metrics[entry["name"]]
        users = [name for name, task in tasks.items() if entry["name"] in task.metrics or name in metric.tasks]
        entry["description"] += f" {'Higher' if metric.higher_is_better else 'Lower'} is better."
        entry["description"] += f" ({', '.join(users) or 'no task'})"
    return entries, broken


def _models() -> Listed:
    from peftlab.models.catalogue import MODELS

    return [{"name": name, "description": text} for name, text in MODELS.items()], {}


def _recipes() -> Listed:
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


_MORE: dict[str, Callable[[], Listed]] = {
    "regularizers": _regularizers,
    "optimizers": _optimizers,
    "models": _models,
    "metrics": _metrics,
    "recipes": _recipes,
}
"""What is not in a registry, or has more to be told than a name and a sentence."""
