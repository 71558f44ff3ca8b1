"""``peftlab app build | evaluate | serve``: a few tuned models at work together."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Host, Json, Offline, Port, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.stopping import resumable
from peftlab.cli.verbs import Group, verb
from peftlab.core.installed import check_installed

PACKAGES = ("fastapi", "uvicorn", "sqlalchemy")

application = typer.Typer(
    help="Build, evaluate and serve an application: support, monitor, recommend.", cls=Group, no_args_is_help=True
)

Given = Annotated[
    Path, typer.Argument(metavar="APP.yaml", help="An application's recipe, or its built folder.", show_default=False)
]
Folder = Annotated[
    Path | None, typer.Option(help="The application's folder. Default: runs/<name>.", show_default=False)
]

Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="SQLAlchemy's address, such as postgresql+psycopg://… Default: SQLite in the application's folder.",
        show_default=False,
    ),
]


@application.command()
@verb()
def build(
    recipe: Annotated[Path, typer.Argument(metavar="APP.yaml", help="An application's recipe.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the application's recipe. May be repeated."),
    ] = None,
    output_dir: Folder = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Tune what is missing, make the indexes, and leave a folder that can be moved. Always resumable."""
    with resumable(), reporting() as reporter:
        from peftlab.assembly.app_file import load_application

        file = load_application(recipe, overrides or [])
        from peftlab.assembly.build import build_application  # loads torch, which takes seconds

        start_computing(device, threads, reporter.say)
        folder = output_dir or file.default_folder
        place = build_application(file, folder, offline=offline, device=device, reporter=reporter)
    if as_json:
        runs = {key: str(path) for key, path in place.runs.items()}
        print_result(
            json.dumps({"folder": str(folder), "type": file.application.registered_name, "parts": runs}, indent=2)
        )
    else:
        named = shlex.quote(str(folder))
        print(f"Built: {folder}\n\nNext:\n  peftlab app evaluate {named}\n  peftlab app serve {named}")


@application.command()
@verb()
def evaluate(
    given: Given,
    output_dir: Folder = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Score the whole system on held-out data, and each part alone."""
    with reporting() as reporter:
        from peftlab.assembly.app_folder import open_application
        from peftlab.assembly.evaluate import evaluate_application, summary

        start_computing(device, threads, reporter.say)
        found, place = open_application(given, output_dir, offline=offline, device=device, reporter=reporter)
        result = evaluate_application(found, place)
    print_result(json.dumps(result, indent=2, ensure_ascii=False) if as_json else summary(result))


@application.command()
@verb()
def serve(
    given: Given,
    output_dir: Folder = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    database: Database = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
) -> None:
    """Serve a built application: a page for people, an API for programs."""
    check_installed(PACKAGES, "serving needs", extra="serve")
    with reporting() as reporter:
        from peftlab.assembly.app_folder import open_application
        from peftlab.assembly.serve import serve_application
        from peftlab.core.address import given_token

        start_computing(device, threads, reporter.say)
        found, place = open_application(given, output_dir, offline=offline, device=device, reporter=reporter)
        serve_application(found, place, address=host, port=port, token=given_token(), database=database)


@application.command()
@verb()
def feed(
    given: Given,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Tables, - for JSON lines on standard input, or redis://host:port/database/stream.",
            show_default=False,
        ),
    ],
    output_dir: Folder = None,
    database: Database = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Take texts in from files, standard input or a Redis stream. Each is counted once, however often it is fed."""
    check_installed(PACKAGES, "serving needs", extra="serve")
    with reporting() as reporter:
        from peftlab.assembly.app_folder import open_application
        from peftlab.assembly.serve import database_of
        from peftlab.core.application import Hosting

        start_computing(device, threads, reporter.say)
        found, place = open_application(given, output_dir, offline=offline, device=device, reporter=reporter)
        told = found.feed(place, Hosting(database_of(place, database)), sources)
    print_result(json.dumps(dict(told)) if as_json else ", ".join(f"{count} {name}" for name, count in told.items()))
