"""What all verbs share: how an error ends them, and which verb is meant by a name that other tools use."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, ParamSpec

import typer
from typer.core import TyperGroup

from peftlab.cli.json_object import alone_on_output, print_error
from peftlab.cli.output import exit_code_of, quiet_libraries, show_error
from peftlab.cli.stopping import came_of_ctrl_c
from peftlab.core.errors import closest
from peftlab.core.reporter import tell
from peftlab.training.launch import is_first_process

P = ParamSpec("P")

OTHER_NAMES = {
    **dict.fromkeys(("train", "finetune", "fine-tune", "ft", "fit", "start", "resume"), "run"),
    **dict.fromkeys(("update", "go-on", "extend", "incremental", "continual"), "continue"),
    **dict.fromkeys(("infer", "inference", "classify", "generate"), "predict"),
    **dict.fromkeys(("test", "eval", "score"), "evaluate"),
    **dict.fromkeys(("sample", "query", "choose", "active-learning"), "select"),
    **dict.fromkeys(("list", "methods", "models", "tasks"), "ls"),
    **dict.fromkeys(("check", "lint"), "validate"),
    **dict.fromkeys(("benchmark", "compare"), "bench"),
    **dict.fromkeys(("sweep", "search", "optimize", "hpo"), "tune"),
    **dict.fromkeys(("annotate", "labelling", "labeling"), "label"),
    **dict.fromkeys(("soup", "combine", "vote"), "ensemble"),
    **dict.fromkeys(("merge", "convert", "save"), "export"),
    **dict.fromkeys(("upload", "publish"), "push"),
    **dict.fromkeys(("memory", "fits"), "estimate"),
    **dict.fromkeys(("server", "api"), "serve"),
    **dict.fromkeys(("dashboard", "ui", "watch"), "board"),
    **dict.fromkeys(("talk",), "chat"),
    **dict.fromkeys(("env", "info", "diagnose", "version"), "doctor"),
}


class Group(TyperGroup):
    """A group whose help shows no type beside a flag: typer writes `--yes <bool>`, as if a value had to follow."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The group's own options."""
        return _without_types_of_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; a word that is none of an option's is told without typer's own words, and with what is near."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _plain(error.message)
            raise

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A verb by its name; None where there is none."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _without_types_of_flags(command.get_params(ctx))
        return command


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ")
    word, found, choices = message.partition(" is not one of ")
    near = closest(word.strip("'"), re.findall("'([^']+)'", choices)) if found else None
    return message if near is None else f"{message} Did you mean '{near}'?"


def _without_types_of_flags(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


class Verbs(Group):
    """The group of all verbs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name the verb that is meant by a word that other tools use."""
        verb = self._meant(ctx, args[0].lower()) if args else None
        if verb is not None and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{verb}'?")
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: Any, word: str) -> str | None:
        """The verb that another tool's word means, misspelt or not; None: typer names the verbs that are near."""
        near = [word] if word in OTHER_NAMES else get_close_matches(word, [*OTHER_NAMES, *self.list_commands(ctx)], n=1)
        return OTHER_NAMES.get(near[0]) if near else None


def _end_with(error: Exception, *, as_json: bool) -> int:
    """Tell of an error, if this is the first of the processes or that one is missing; the exit code."""
    if is_first_process() or getattr(error, "is_told_by_any", False):
        return show_error(error, as_json=as_json)
    return exit_code_of(error)


def _stopped(stop: BaseException, *, as_json: bool) -> int:
    """Say that Ctrl-C has ended a verb, and how to go on, if this is the first of the processes; the exit code."""
    way_on = str(stop) if isinstance(stop, KeyboardInterrupt) else ""
    if is_first_process():
        tell(f"Stopped. {way_on}".strip())
        if as_json:
            print_error(f"stopped: {way_on}" if way_on else "stopped", 1)
    return 1


def verb(*, quiet: bool = True) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Make a function a verb: whatever it raises becomes a message and an exit code, an object too under ``--json``.

    Args:
        quiet: Keep the libraries from writing between peftlab's lines; the option ``--offline`` is passed on to them.
    """

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(function)
        def run_verb(*args: P.args, **kwargs: P.kwargs) -> None:
            if quiet:
                quiet_libraries(offline=bool(kwargs.get("offline")))
            try:
                with alone_on_output() if kwargs.get("as_json") else contextlib.nullcontext():
                    function(*args, **kwargs)
            except typer.Exit:
                raise
            except KeyboardInterrupt as stop:  # typer would end without a word, and with another code
                raise typer.Exit(_stopped(stop, as_json=bool(kwargs.get("as_json")))) from None
            except Exception as error:  # noqa: BLE001 - shown as a message, or as a defect
                end = _stopped if came_of_ctrl_c(error) else _end_with
                raise typer.Exit(end(error, as_json=bool(kwargs.get("as_json")))) from None

        return run_verb

    return decorate
