"""The folder of a built application: its recipe, ``application.json``, ``parts/``, and what it made itself."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from peftlab.artifact.saved_run import SavedRun
from peftlab.assembly.app_file import AppFile, load_application
from peftlab.core.application import Application, Workplace
from peftlab.core.config import parse_yaml
from peftlab.core.destination import check_folder
from peftlab.core.errors import UserError
from peftlab.core.files import names_in, write_text
from peftlab.core.reporter import Reporter, Silent
from peftlab.recipe.schema import yaml_text
from peftlab.recipe.shipped import find_recipe

APP_NAME = "application.yaml"
STATE_NAME = "application.json"
PARTS = "parts"
FORMAT = 1
NOT_OURS = re.compile(rf"{PARTS}/|{STATE_NAME}|{APP_NAME}|evaluation\.json|(.*/)?\.|.*\.(db|sqlite)")
"""Parts, which know their own files; the recipe, which tells of its mistakes; and what is made or changed later."""


def start_folder(folder: Path, application: Application) -> None:
    """Make the folder, or see that it is this application's.

    Raises:
        UserError: It holds something else, or an application of another recipe.
    """
    path, values = folder / APP_NAME, application.model_dump(mode="json")
    if path.exists():
        earlier = parse_yaml(path.read_text(encoding="utf-8"), source=str(path)).values
        with contextlib.suppress(ValidationError):  # then it is of another kind, or has keys that there are no more
            # A key that is newer than the folder has its default there too.
            earlier = type(application).model_validate(earlier).model_dump(mode="json")
        changed = sorted(key for key in {*earlier, *values} if earlier.get(key) != values.get(key))
        if changed:
            raise UserError(
                f"the application in this folder has another recipe: {', '.join(changed)}",
                where=str(folder),
                hint="Choose another --output-dir, or delete this folder to build it anew.",
            )
        return
    if folder.exists() and (not folder.is_dir() or names_in(folder) - {STATE_NAME}):
        raise UserError("there is something else in this place", where=str(folder), hint="Choose another --output-dir.")
    check_folder(folder, option="--output-dir")
    folder.mkdir(parents=True, exist_ok=True)
    _write_state(folder, "building")
    write_text(path, yaml_text(values))


def mark_built(folder: Path) -> None:
    """Say that all is there, and what: the application's own files, with their sizes. Parts know their own."""
    there = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    own = {name: path.stat().st_size for name, path in there.items() if not NOT_OURS.match(name)}
    _write_state(folder, "built", own)


def open_application(
    given: Path,
    folder: Path | None = None,
    *,
    offline: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> tuple[Application, Workplace]:
    """A built application, ready to be judged or served.

    Args:
        given: Its folder, or the recipe that it was built from.
        folder: Where it was built; None: the recipe's default.
        offline: Use no network.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reporter: Is told what goes on.

    Raises:
        UserError: It is not there, not whole, or of another version's format.
    """
    place = given if given.is_dir() else folder or load_application(given).default_folder
    state = _read_state(place, given)
    if state.get("format") != FORMAT:
        raise UserError(
            f"the application is of format {state.get('format')}, and this peftlab reads format {FORMAT}",
            where=str(place),
            hint=f"It was built by peftlab {state.get('peftlab', 'of an unknown version')}. Build it anew.",
        )
    if state.get("status") != "built":
        raise UserError(
            "the application is not built to the end", where=str(place), hint="Run `peftlab app build` again."
        )
    _check_files(place, state.get("files") or {})
    file: AppFile = load_application(place / APP_NAME)
    runs = {key: SavedRun.open(place / PARTS / key).folder for key in file.application.parts()}
    return file.application, Workplace(place, runs, place, reporter or Silent(), offline, device)


def _read_state(folder: Path, given: Path) -> dict[str, Any]:
    path = folder / STATE_NAME
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        made = f"`peftlab app build {shlex.quote(str(given))}` makes it."
        what = made if find_recipe(given).is_file() else "Name its recipe, or its folder."
        raise UserError("there is no application in this place", where=str(folder), hint=what) from None
    except ValueError:
        raise UserError("this file is damaged: it is no JSON", where=str(path), hint="Build again.") from None
    return state if isinstance(state, dict) else {}


def _check_files(folder: Path, files: Mapping[str, int]) -> None:
    for name, size in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise UserError(
                "this file of the application is damaged"
                if path.is_file()
                else "this file of the application is missing",
                where=str(path),
                hint="Copy the folder whole from where it was built, or build it anew.",
            )


def _write_state(folder: Path, status: str, files: Mapping[str, int] | None = None) -> None:
    state = {"format": FORMAT, "status": status, "peftlab": version("peftlab"), "files": dict(files or {})}
    write_text(folder / STATE_NAME, json.dumps(state, indent=2) + "\n")
