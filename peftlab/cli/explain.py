"""``peftlab explain``: which tokens carried a decision."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Force, Json, Offline, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.installed import CAPTUM, check_installed


@verb()
def explain(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a run or merged export.", show_default=False)
    ],
    text: Annotated[
        str,
        typer.Argument(metavar="TEXT", help="The text. Write a pair with a tab between its texts.", show_default=False),
    ],
    target: Annotated[str | None, typer.Option(help="The class to explain. Default: the predicted one.")] = None,
    steps: Annotated[
        int, typer.Option(min=2, max=10_000, help="Steps of the integral. More steps are more exact.")
    ] = 64,
    output: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Also write an HTML page.")] = None,
    force: Force = False,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Show which tokens carried a decision, by integrated gradients."""
    check_installed(CAPTUM, "explanations need", extra="explain")
    with reporting() as reporter:
        from peftlab.artifact.saved_export import inputs_of_saved
        from peftlab.core.destination import check_file, check_page
        from peftlab.inference.explanation.attributions import explain as explain_text
        from peftlab.inference.explanation.page import coloured_text, completeness, decision, write_page
        from peftlab.inference.files import options_in_hints
        from peftlab.inference.load_tuned import load_tuned

        if output is not None:
            check_file(output, inputs=inputs_of_saved(run), force=force)
            check_page(output)
        chosen = start_computing(device, threads, reporter.say)
        tuned = load_tuned(run, offline=offline, device=chosen, report=reporter.say)
        with options_in_hints():
            found = explain_text(tuned, text, target=target, steps=steps)
    if output is not None:
        write_page(found, output)
    if as_json:
        print_result(
            json.dumps({**dataclasses.asdict(found), "completeness_gap": found.completeness_gap}, ensure_ascii=False)
        )
        return
    from rich.console import Console

    console = Console()
    console.print(
        f"{found.run}: {decision(found)}; tokens for (blue) and against (orange) {found.target}", markup=False
    )
    console.print(coloured_text(found))
    for token, value in sorted(zip(found.tokens, found.attributions, strict=True), key=lambda pair: -abs(pair[1])):
        console.print(f"  {round(value, 4) + 0.0:+.4f}  {token}", markup=False, highlight=False)
    console.print(completeness(found), markup=False, highlight=False, soft_wrap=True)
    if output is not None:
        print(f"  page        {output}")
