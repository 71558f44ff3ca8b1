"""``peftlab estimate``: will it fit?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.json_object import print_result
from peftlab.cli.options import Json, Offline, Overrides, Processes
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.amounts import plural, size


@verb()
def estimate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file.", show_default=False)],
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory of the device, such as 8GB. Default: what this machine has."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N. This machine need not have it.")] = "auto",
    processes: Processes = None,
    overrides: Overrides = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Tell a recipe's peak memory before it runs, whether it fits, and what would make it fit."""
    from peftlab.core.devices import check_device_name
    from peftlab.estimate.target import find_target
    from peftlab.recipe.schema import load_recipe

    name = check_device_name(device)
    loaded, document = load_recipe(recipe, overrides or [])
    target = find_target(name, memory, processes=processes or 1)
    with reporting() as reporter:
        found = _estimate(loaded, document, target, offline=offline, reporter=reporter)
    print_result(json.dumps(found.to_json(), indent=2) if as_json else describe(found))


def _estimate(recipe: Any, document: Any, target: Any, *, offline: bool, reporter: Any) -> Any:
    from peftlab.estimate.data import look_at_data, with_local_data
    from peftlab.estimate.recipe import estimate_recipe
    from peftlab.preparation.check import check_model
    from peftlab.preparation.places import at_place

    checked = check_model(recipe, document, offline=offline, reporter=reporter, need_weights=False)
    checked, batch = look_at_data(with_local_data(checked, document), target.processes)
    with at_place(document, ("method",)):
        return estimate_recipe(checked, target, batch=batch, reporter=reporter)


def describe(found: Any) -> str:
    """An estimate for a person, on less than a screen."""
    source = "the longest of the data" if found.is_from_data else "the longest that task.max_length allows"
    labels = found.memory.loss_terms
    if labels > found.batch.size:
        source += f"; {labels} of its tokens carry a label" + ("" if found.is_from_data else ": as many as can")
    lines = [
        f"peak {size(found.peak_bytes)} on {found.target.name}, "
        f"batch {found.batch.size} × {found.batch.length} tokens ({source})"
    ]
    if found.target.processes > 1:
        lines[0] += f"; of {found.target.processes} processes, the one with most"
    parts = [f"{name.replace('_', ' ')} {size(count)}" for name, count in found.categories.items() if count]
    lines.append(f"  {'training' if 'train' in found.memory.phases else 'evaluation':<11} {', '.join(parts)}")
    lines.append(f"  phases      {', '.join(f'{name} {size(peak)}' for name, peak in found.memory.phases.items())}")
    available = found.target.memory_bytes
    if available is not None:
        lines.append(f"  {'fits' if found.fits else 'DOES NOT FIT'} into {size(available)}")
        lines.append(
            f"  at most     {found.largest_batch_size or 'no'} examples of {found.batch.length} tokens at once; "
            f"{found.largest_length or 'no'} tokens at {plural(found.batch.size, 'example')}"
        )
    for change, peak in found.changes:
        settings = " ".join(f"--set {key}={value}".replace("True", "true") for key, value in change.settings.items())
        verdict = "" if available is None else (" fits" if peak <= available else "     ")
        lines.append(f"  {size(peak):>9}{verdict}  {settings}  ({change.effect})")
    if found.fits is False and not any(peak <= available for _, peak in found.changes):
        lines.append(
            "  none of the settings that were tried makes it fit: take shorter texts (task.max_length), a smaller"
        )
        lines.append("  base, or model.offload in the place of a quantization (docs/memory.md)")
    lines += [f"  {note}" for note in found.notes]
    if not found.target.is_verified:
        lines.append("  not verified: no measurement on several GPUs has confirmed estimates for them yet")
    return "\n".join(lines)
