"""``peftlab reproduce``: run a record again and say whether it agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.options import Json, Offline


def reproduce(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run, or of a suite.", show_default=False)
    ],
    cell: Annotated[
        str | None,
        typer.Argument(metavar="[CELL]", help="A cell of the suite, as in lora--seed0.", show_default=False),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the run made again; by default runs/<name>-<UTC time>.", show_default=False),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Run a record's recipe again and say, figure by figure, whether it agrees."""
    from peftlab.cli.output import quiet_libraries, reporting, show_error

    quiet_libraries(offline=offline)
    try:
        with reporting() as reporter:
            import peftlab.reproduce
            from peftlab.packs.runs import locate_run

            run = locate_run(run, cell)
            result = peftlab.reproduce.reproduce(run, output_dir=output_dir, offline=offline, reporter=reporter)
    except Exception as error:  # noqa: BLE001 - shown as a message, or as a defect
        raise typer.Exit(show_error(error, as_json=as_json)) from None
    print(json.dumps(result.as_json(), indent=2) if as_json else as_text(result))
    raise typer.Exit(0 if result.agrees else 1)


WORDS = {
    "identical": "identical",
    "inside": "inside its interval",
    "outside": "OUTSIDE its interval",
    "differs": "DIFFERS",
    "unjudged": "differs; the metric has no interval over examples",
}


def as_text(result: Any) -> str:
    """The comparison for a person."""
    lines = ["the record agrees" if result.agrees else "the record does NOT agree"]
    if result.same_environment:
        lines.append("same machine and versions: every score must be identical")
    else:
        lines.append(f"another environment ({', '.join(result.differences)}): scores may move inside their intervals")
    width = max(len(figure.name) for figure in result.figures)
    for figure in result.figures:
        interval = f"  [{figure.interval[0]:.4f}, {figure.interval[1]:.4f}]" if figure.interval else ""
        values = f"{_short(figure.before)} → {_short(figure.now)}{interval}"
        lines.append(f"  {figure.name:<{width}}  {WORDS[figure.verdict]:<20}  {values}")
    for name, cost in result.costs.items():
        lines.append(f"  {name:<{width}}  {'× ' + format(cost['ratio'], '.2f'):<20}  (not judged)")
    lines.append(f"  folder: {result.folder}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 20 else str(value)
