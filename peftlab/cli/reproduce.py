"""``peftlab reproduce``: run a record again and say whether it agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Json, Offline, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb


@verb()
def reproduce(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run, or of a suite.", show_default=False)
    ],
    cell: Annotated[
        str | None,
        typer.Argument(metavar="CELL", help="A cell of the suite, as in lora--seed0.", show_default=False),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the new run. Default: runs/<name>-<UTC time>.", show_default=False),
    ] = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Run a record's recipe again, and say for each figure whether it agrees."""
    with reporting() as reporter:
        from peftlab.core.record import run_of
        from peftlab.packs.runs import locate_run
        from peftlab.run.reproduce.rerun import reproduce as run_again

        run = locate_run(run_of(run), cell)
        start_computing(device, threads, reporter.say)
        result = run_again(run, output_dir=output_dir, offline=offline, device=device, reporter=reporter)
    print_result(json.dumps(result.as_json(), indent=2) if as_json else as_text(result))
    raise typer.Exit(0 if result.agrees else 1)


WORDS = {
    "identical": "identical",
    "inside": "within chance",
    "outside": "DIFFERS by more than chance",
    "differs": "DIFFERS",
    "unjudged": "CANNOT BE JUDGED",
}
HEADLINES = {
    "agrees": "the record agrees",
    "differs": "the record does NOT agree",
    "cannot be judged": "it cannot be judged whether the record agrees",
}


def as_text(result: Any) -> str:
    """The comparison for a person."""
    lines = [HEADLINES[result.verdict]]
    if result.same_environment:
        lines.append("same machine and versions: every score must be identical")
    else:
        environment = ", ".join(result.differences)
        lines.append(f"another environment ({environment}): scores may differ by chance, tested example by example")
    for split, counts in result.predictions.items():
        lines.append(f"{split}: {counts['same']} of {counts['examples']} predictions are the same")
    width = max(len(figure.name) for figure in result.figures)
    for figure in result.figures:
        lines.append(f"  {figure.name:<{width}}  {WORDS[figure.verdict]:<27}  {_values(figure)}")
        if figure.reason:
            lines.append(f"  {'':<{width}}  {figure.reason}")
    for name, cost in result.costs.items():
        lines.append(f"  {name:<{width}}  {'× ' + format(cost['ratio'], '.2f'):<27}  (not judged)")
    lines.append(f"  folder: {result.folder}")
    return "\n".join(lines)


def _values(figure: Any) -> str:
    values = f"{_short(figure.before)} → {_short(figure.now)}"
    if figure.interval:
        low, high = figure.interval
        values += f"  ({figure.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, p {figure.p_value:.2g})"
    return values


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 20 else str(value)
