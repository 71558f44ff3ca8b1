"""``peftlab push``: a run's weights or an export to the Hugging Face Hub."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from peftlab.cli.json_object import print_result
from peftlab.cli.options import Json, Run
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb


@verb()
def push(
    folder: Run,
    repository: Annotated[
        str | None,
        typer.Option(
            "--repository",
            metavar="OWNER/NAME",
            help="The repository. It is made if needed. Default: the run's name, under your account.",
            show_default=False,
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public. Default: private.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Upload even if the repository holds files that are not from peftlab.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Upload a run's weights or an export, with its model card. Log in first: `hf auth login`."""
    with reporting() as reporter:
        from peftlab.inference.push import push_folder

        address = push_folder(folder, repository, private=not public, force=force, report=reporter.say)
    print_result(json.dumps({"address": address}) if as_json else address)
