"""``peftlab validate``: check recipes and suites without loading weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.json_object import print_result
from peftlab.cli.options import Json, Offline, Overrides
from peftlab.cli.verbs import verb
from peftlab.core.amounts import size
from peftlab.core.reporter import PlainReporter


@verb()
def validate(
    recipes: Annotated[
        list[Path], typer.Argument(metavar="RECIPE…", help="Files of recipes or suites.", show_default=False)
    ],
    overrides: Overrides = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Check recipes and suites, with their data, without loading weights."""
    from peftlab.core.errors import PeftlabError

    results: dict[str, dict[str, Any]] = {}
    worst = 0
    for path in recipes:
        try:
            check = _check_suite if _is_suite(path) else _check
            results[str(path)] = {"valid": True, **check(path, overrides or [], offline, PlainReporter())}
        except PeftlabError as error:
            worst = max(worst, error.exit_code)
            results[str(path)] = {"valid": False, "error": str(error)}
        if not as_json:
            _show(path, results[str(path)])
    if as_json:
        print_result(json.dumps({"recipes": results}, indent=2))
    raise typer.Exit(worst)


def _check(path: Path, overrides: list[str], offline: bool, reporter: Any) -> dict[str, Any]:
    from peftlab.preparation.check import check_recipe
    from peftlab.preparation.check_settings import unheeded_rate
    from peftlab.recipe.schema import load_recipe

    recipe, document = load_recipe(path, overrides)
    checked = check_recipe(recipe, document, offline=offline, reporter=reporter)
    warnings = [each for each in (_memory_warning(checked), unheeded_rate(checked.recipe)) if each is not None]
    return {
        **({"warnings": warnings} if warnings else {}),
        "model": f"{checked.facts.model_type} ({checked.facts.family})",
        "task": recipe.task.registered_name,
        "method": recipe.method.registered_name,
        "rows": checked.data.summary.rows,
        "labels": len(checked.labels),
        "notes": checked.data.summary.notes,
    }


def _is_suite(path: Path) -> bool:
    """Whether a file compares methods on a recipe elsewhere; what cannot be read is told as a recipe."""
    from peftlab.core.config import read_yaml
    from peftlab.core.errors import PeftlabError
    from peftlab.recipe.kinds import SUITE, kind_of

    try:
        return kind_of(read_yaml(path)) == SUITE
    except PeftlabError:
        return False


def _check_suite(path: Path, overrides: list[str], offline: bool, reporter: Any) -> dict[str, Any]:
    from peftlab.bench.plan import Plan
    from peftlab.bench.suite import load_suite
    from peftlab.bench.suite_folder import SuiteFolder
    from peftlab.core.errors import UserError

    if overrides:
        raise UserError("a suite has its overrides in itself, under `set`", where="--set")
    suite, document = load_suite(path)
    plan = Plan(suite, document, SuiteFolder(Path("runs") / suite.name), offline=offline, reporter=reporter)
    return {
        "cells": [cell.name for cell in plan.cells],
        "seeds": suite.seeds,
        "rows": {", ".join(names): checked.data.summary.rows for names, checked in plan.checked.items()},
        "warnings": [f"{name} cannot run: {why}" for name, why in plan.refusals.items()],
    }


def _memory_warning(checked: Any) -> str | None:
    """Whether not even the weights fit into what this machine has, by sizes alone."""
    from peftlab.estimate.bounds import least_bytes
    from peftlab.estimate.target import find_target

    if checked.recipe.training.sharding is not None:
        return None  # processes share the weights, and nobody knows yet how many
    target = find_target()
    least = least_bytes(checked.recipe, checked.facts, device=target.name)
    if least is None or target.memory_bytes is None or least <= target.memory_bytes:
        return None
    return (
        f"it cannot fit: weights, gradients and optimizer take {size(least)} at least, and {target.name} has "
        f"{size(target.memory_bytes)}; `peftlab estimate` tells what would"
    )


def _show(path: Path, result: dict[str, Any]) -> None:
    from peftlab.core.task import TASKS
    from peftlab.data.notices import describe_notes

    if not result["valid"]:
        print(f"Error: {result['error']}", file=sys.stderr)
        return
    if "cells" in result:
        print(f"{path}: valid. A suite; cells: {len(result['cells'])}, seeds: {len(result['seeds'])}")
        for names, counts in result["rows"].items():
            print(f"  rows{f' of {names}' if names else ''}: {_counts(counts)}")
        for warning in result["warnings"]:
            print(f"  warning: {warning}")
        return
    rows = _counts(result["rows"])
    labels = f", {result['labels']} labels" if result["labels"] else ""
    print(f"{path}: valid. {result['method']} on {result['model']}, {result['task']}; rows: {rows}{labels}")
    for warning in result.get("warnings", []):
        print(f"  warning: {warning}")
    for line in describe_notes(result["notes"], TASKS[result["task"]].compared_by):
        print(f"  {line}")


def _counts(rows: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in rows.items())
