"""``peftlab init``: look at a table and write a recipe that fits it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.json_object import print_result
from peftlab.cli.options import Force, Json, Offline
from peftlab.cli.verbs import verb
from peftlab.core.destination import check_file
from peftlab.core.errors import UserError
from peftlab.core.reporter import tell


@verb()
def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A table: a file, a folder, a pypi: address, a Hub id.")],
    output: Annotated[
        Path | None, typer.Option(metavar="RECIPE", help="The recipe's file. Default: <table>.yaml here.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the first guess.")] = False,
    force: Force = False,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Look at a table and write a recipe that fits it, with the reason of each choice."""
    from peftlab.core.files import write_text
    from peftlab.proposal.propose import propose
    from peftlab.proposal.recipe_text import recipe_text

    stem = Path(data.rstrip("/").partition("#")[0]).name.partition(".")[0]
    name = re.sub(r"[^\w-]+", "-", stem).strip("-_") or "recipe"
    path = output or Path(f"{name}.yaml")
    # Beside the tables of a folder a recipe has its place; over a table it has none, whatever --force says.
    check_file(path, inputs=[] if os.path.isdir(data) else [data], force=force)  # noqa: PTH112 - raises nothing
    address = _from_folder_of(path, data)
    may_ask = not yes and not as_json and sys.stdin.isatty() and sys.stderr.isatty()
    with _by_hand(data):
        proposal = propose(data, name=name, offline=offline, report=tell, ask=_ask if may_ask else None)
    values = {**proposal.values, "data": {**proposal.values["data"], "source": _moved(proposal, data, address)}}
    proposal = type(proposal)(values, proposal.reasons, proposal.notes)
    write_text(path, recipe_text(proposal, command=f"peftlab init {shlex.quote(data)}"))
    if as_json:
        print_result(json.dumps({"recipe": str(path), "values": values, "notes": proposal.notes}, ensure_ascii=False))
        return
    print("\n".join([*proposal.notes, f"wrote {path}", f"next: peftlab run {shlex.quote(str(path))}"]))


@contextlib.contextmanager
def _by_hand(data: str) -> Iterator[None]:
    """Keys that would mend an error are said of a recipe, and there is none yet."""
    try:
        yield
    except UserError as error:
        if "`data." in (error.hint or ""):
            instead = "name one file of the folder" if os.path.isdir(data) else "save the table as usual first"  # noqa: PTH112
            error.hint = f"{error.hint}\n  `init` takes no keys: {instead}, or write a recipe by hand."
        raise


def _from_folder_of(recipe: Path, address: str) -> str:
    """A path as it is seen from the recipe's folder; any other address as it is."""
    if not Path(address).expanduser().exists() or Path(address).is_absolute():
        return address
    return Path(os.path.relpath(Path(address).resolve(), recipe.parent.resolve())).as_posix()


def _moved(proposal: Any, old: str, new: str) -> Any:
    source = proposal.values["data"]["source"]
    if isinstance(source, str):
        return new
    return {split: value.replace(old.rstrip("/"), new.rstrip("/"), 1) for split, value in source.items()}


def _ask(question: str, answers: Sequence[str]) -> int:
    """A question on the terminal; the first answer is taken where only Enter is pressed."""
    typer.echo(question, err=True)
    for number, answer in enumerate(answers, start=1):
        typer.echo(f"  {number}  {answer}", err=True)
    while True:
        chosen: int = typer.prompt("Number", default=1, type=int, err=True)
        if 1 <= chosen <= len(answers):
            return chosen - 1
        typer.echo(f"A number from 1 to {len(answers)} is needed.", err=True)
