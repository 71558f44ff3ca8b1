"""``peftlab validate``: check recipes without loading weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.options import Json, Offline, Overrides
from peftlab.cli.verbs import verb
from peftlab.core.amounts import size
from peftlab.core.reporter import PlainReporter


@verb()
def validate(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE…", help="Recipe files.", show_default=False)],
    overrides: Overrides = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Check recipes, with their data, without loading weights."""
    from peftlab.core.errors import PeftlabError

    results: dict[str, dict[str, Any]] = {}
    worst = 0
    for path in recipes:
        try:
            results[str(path)] = {"valid": True, **_check(path, overrides or [], offline, PlainReporter())}
        except PeftlabError as error:
            worst = max(worst, error.exit_code)
            results[str(path)] = {"valid": False, "error": str(error)}
        if not as_json:
            _show(path, results[str(path)])
    if as_json:
        print(json.dumps({"recipes": results}, indent=2))
    raise typer.Exit(worst)


def _check(path: Path, overrides: list[str], offline: bool, reporter: Any) -> dict[str, Any]:
    from peftlab.preparation.check import check_recipe
    from peftlab.recipe.schema import load_recipe

    recipe, document = load_recipe(path, overrides)
    checked = check_recipe(recipe, document, offline=offline, reporter=reporter)
    warning = _memory_warning(checked)
    return {
        **({"warnings": [warning]} if warning else {}),
        "model": f"{checked.facts.model_type} ({checked.facts.family})",
        "task": recipe.task.registered_name,
        "method": recipe.method.registered_name,
        "rows": checked.data.summary.rows,
        "labels": len(checked.labels),
        "notes": checked.data.summary.notes,
    }


def _memory_warning(checked: Any) -> str | None:
    """Whether not even the weights fit into what this machine has, by sizes alone."""
    from peftlab.estimate.bounds import least_bytes
    from peftlab.estimate.target import find_target

    target = find_target()
    least = least_bytes(checked.recipe, checked.facts, device=target.name)
    if least is None or target.memory_bytes is None or least <= target.memory_bytes:
        return None
    return (
        f"it cannot fit: weights, gradients and optimizer take {size(least)} at least, and {target.name} has "
        f"{size(target.memory_bytes)}; `peftlab estimate` tells what would"
    )


def _show(path: Path, result: dict[str, Any]) -> None:
    from peftlab.data.notices import describe_notes

    if not result["valid"]:
        print(f"Error: {result['error']}", file=sys.stderr)
        return
    rows = ", ".join(f"{count} {split}" for split, count in result["rows"].items())
    labels = f", {result['labels']} labels" if result["labels"] else ""
    print(f"{path}: valid. {result['method']} on {result['model']}, {result['task']}; rows: {rows}{labels}")
    for warning in result.get("warnings", []):
        print(f"  warning: {warning}")
    for line in describe_notes(result["notes"]):
        print(f"  {line}")
