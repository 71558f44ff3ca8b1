"""The command ``peftlab``. Heavy imports live inside the verbs, so that ``--help`` answers at once."""

from __future__ import annotations

import functools
import itertools
import sys
from typing import Annotated, Any

import typer
from typer.main import get_command

from peftlab.cli.application import application
from peftlab.cli.audit import audit
from peftlab.cli.bench import bench
from peftlab.cli.board import board
from peftlab.cli.chat import chat
from peftlab.cli.continuing import continue_run
from peftlab.cli.data import data
from peftlab.cli.doctor import doctor
from peftlab.cli.ensemble import ensemble
from peftlab.cli.estimate import estimate
from peftlab.cli.evaluate import evaluate
from peftlab.cli.explain import explain
from peftlab.cli.export import export
from peftlab.cli.init import init
from peftlab.cli.json_object import print_error
from peftlab.cli.label import label
from peftlab.cli.ls import ls
from peftlab.cli.output import READER_LEFT, end_output, show_error
from peftlab.cli.pack import pack
from peftlab.cli.predict import predict
from peftlab.cli.push import push
from peftlab.cli.report import report
from peftlab.cli.reproduce import reproduce
from peftlab.cli.run import run
from peftlab.cli.schema import schema
from peftlab.cli.select import select
from peftlab.cli.serve import serve
from peftlab.cli.stopping import came_of_ctrl_c, ended_in_good_order
from peftlab.cli.tune import tune
from peftlab.cli.validate import validate
from peftlab.cli.verbs import Verbs
from peftlab.core import garbage, threads
from peftlab.core.reporter import tell

BEGIN, USE, GO_ON = "Begin", "Use a run", "Go on from runs"
COMPARE, SHIP = "Compare", "Ship"
"""The parts of the list of verbs."""
INTERRUPTED = 128 + 2
"""With what typer ends, without a word, where Ctrl-C comes before a verb begins."""

app = typer.Typer(
    name="peftlab",
    help="Parameter-efficient fine-tuning: run recipes, and get a record with scores, costs and checks.",
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel=BEGIN)(init)
app.command(rich_help_panel=BEGIN)(run)
app.command(rich_help_panel=BEGIN)(estimate)
app.command(rich_help_panel=BEGIN)(validate)
app.command(rich_help_panel=BEGIN)(ls)
app.command(rich_help_panel=BEGIN)(data)
app.command(rich_help_panel=BEGIN)(schema)
app.command(rich_help_panel=BEGIN)(doctor)
app.command(rich_help_panel=USE)(predict)
app.command(rich_help_panel=USE)(evaluate)
app.command(rich_help_panel=USE)(chat)
app.command(rich_help_panel=USE)(explain)
app.command(rich_help_panel=USE)(audit)
app.command(rich_help_panel=USE)(board)
app.command("continue", rich_help_panel=GO_ON)(continue_run)
app.command(rich_help_panel=GO_ON)(select)
app.command(rich_help_panel=GO_ON)(label)
app.command(rich_help_panel=GO_ON)(ensemble)
app.command(rich_help_panel=COMPARE)(tune)
app.command(rich_help_panel=COMPARE)(bench)
app.command(rich_help_panel=COMPARE)(report)
app.command(rich_help_panel=COMPARE)(pack)
app.command(rich_help_panel=COMPARE)(reproduce)
app.command(rich_help_panel=SHIP)(export)
app.command(rich_help_panel=SHIP)(serve)
app.command(rich_help_panel=SHIP)(push)
app.add_typer(application, name="app", rich_help_panel=SHIP)


def _show_version(wanted: bool) -> None:
    if wanted:
        from peftlab import __version__

        typer.echo(f"peftlab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The options before the verb."""


@functools.cache
def _command() -> Any:
    """The verbs as typer makes them of their functions; to read all signatures takes as long as some verbs."""
    return get_command(app)


def main() -> None:
    """Run the command; every error that a user can meet becomes a message and an exit code."""
    threads.begin()
    output, errors = sys.stdout, sys.stderr
    with garbage.looked_for_seldom(), ended_in_good_order():
        code = _exit_code()
    sys.stdout, sys.stderr = output, errors  # typer puts wrappers in their place where a pipe is broken
    sys.exit(end_output(code))


def _tell_wrong_usage(leaving: SystemExit) -> None:
    """Print as an object, too, what typer has said of a wrong option or argument, where ``--json`` stands beside it."""
    words = itertools.takewhile(lambda word: word != "--", sys.argv[1:])
    told = getattr(leaving.__context__, "format_message", None)
    if callable(told) and "--json" in words and isinstance(leaving.code, int):
        print_error(str(told()), leaving.code)


def _stopped() -> int:
    tell("Stopped.")
    return 1


def _exit_code() -> int | str | None:
    try:
        _command()()
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            return _stopped()
        if isinstance(leaving.__context__, BrokenPipeError):  # typer and rich say 1
            return READER_LEFT
        _tell_wrong_usage(leaving)
        return leaving.code
    except KeyboardInterrupt:
        return _stopped()
    except Exception as error:  # noqa: BLE001 - the last station: what is no PeftlabError is shown as a defect
        return _stopped() if came_of_ctrl_c(error) else show_error(error)
    return 0
