"""Build an application: tune the parts that are missing, then let it make what it needs besides."""

from __future__ import annotations

import copy
import functools
import importlib.util
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peftlab.artifact.saved_run import SavedRun
from peftlab.assembly.app_file import AppFile, load_part
from peftlab.assembly.app_folder import APP_NAME, PARTS, mark_built, start_folder
from peftlab.core.application import Application, Workplace
from peftlab.core.config import Config, parse_yaml
from peftlab.core.errors import RunFailedError, UserError
from peftlab.core.files import atomic_folder
from peftlab.core.folder_lock import alone_in
from peftlab.core.record import CHECKPOINTS, RECIPE_NAME
from peftlab.core.reporter import Reporter, Silent
from peftlab.recipe.schema import write_yaml_values
from peftlab.run.run import run_recipe

LEFT_BEHIND = (CHECKPOINTS, ".lock")
"""What a finished run has and an application does not need."""


def build_application(
    file: AppFile,
    folder: Path,
    *,
    offline: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Workplace:
    """Tune, index and check, and leave a folder that can be moved. What is done already is not done again.

    Args:
        file: From :func:`peftlab.assembly.app_file.load_application`.
        folder: Of the application.
        offline: Use no network.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reporter: Is told what goes on.

    Raises:
        UserError: An input is wrong, the folder holds something else, or another process builds in it.
        RunFailedError: A part could not be tuned.
        KeyboardInterrupt: The user stopped it; the same call goes on from there.
    """
    reporter = reporter or Silent()
    application, sources = file.application, file.document.folder or Path()
    need_packages(application)
    tuned = [key for key, part in application.parts().items() if part.recipe is not None]
    for key in tuned:
        load_part(file, key)  # a mistake in a recipe is told before anything is tuned
    given = {
        key: SavedRun.open(sources / part.run) for key, part in application.parts().items() if part.run is not None
    }
    place = Workplace(folder, {}, sources, reporter, offline, device)
    with _at_line(file):
        application.check(place)
    start_folder(folder, application)
    with alone_in(folder, f".{APP_NAME}.lock", busy="another process is building in this folder"):
        prepared = application.prepare(place)
        recipes = {key: load_part(file, key, prepared.get(key)) for key in tuned}
        own = {key: run.recipe for key, run in given.items()}
        application.check_recipes(own | {key: recipe for key, (recipe, _) in recipes.items()})
        runs: dict[str, Path] = {}
        for key in application.parts():
            runs[key] = folder / PARTS / key
            if key in given:
                _copy_run(given[key], runs[key])
                continue
            follow_folder(runs[key], folder, prepared.get(key, {}))
            reporter.say(f"{key}: {recipes[key][0].name}")
            recipe, document = recipes[key]
            result = run_recipe(
                recipe, document, output_dir=runs[key], resume=runs[key].exists(), offline=offline, device=device,
                reporter=reporter,
            )  # fmt: skip
            if result.record.status == "cancelled":
                raise KeyboardInterrupt  # as where it comes between the parts
            if result.record.status != "success":
                raise RunFailedError(
                    f"the part `{key}` ended with the status {result.record.status}: {result.record.error}",
                    where=str(runs[key]),
                    hint="Mend its recipe, then build again: finished parts are kept.",
                )
        place = Workplace(folder, runs, sources, reporter, offline, device)
        application.build(place)
        mark_built(folder)
    return place


def follow_folder(run: Path, folder: Path, prepared: Mapping[str, Any]) -> None:
    """Let a part's recipe name the tables of its application where they lie now: the folder may have been moved.

    Args:
        run: The part's folder.
        folder: Of the application.
        prepared: What the application sets in the part's recipe.
    """
    path = run / RECIPE_NAME
    if not path.exists():
        return
    values = parse_yaml(path.read_text(encoding="utf-8"), source=str(path)).values
    moved = copy.deepcopy(values)
    for name, new in prepared.items():
        *outer, last = name.split(".")
        place = functools.reduce(lambda within, key: within.get(key, {}), outer, moved)
        if last in place:
            place[last] = _moved(place[last], new, folder.resolve())
    if moved != values:
        write_yaml_values(moved, path)


def _moved(old: Any, new: Any, folder: Path) -> Any:
    """The new address of a file in the folder, where the old one has the same place in another."""
    if isinstance(old, dict) and isinstance(new, Mapping):
        return {key: _moved(value, new.get(key), folder) for key, value in old.items()}
    if not (isinstance(old, str) and isinstance(new, str) and Path(new).is_relative_to(folder)):
        return old
    inner = Path(new).relative_to(folder).parts
    return new if Path(old).parts[-len(inner) :] == inner else old


def need_packages(application: Application) -> None:
    """Refuse an application whose packages are not installed.

    Raises:
        UserError: With the extra that brings them.
    """
    needs = type(application).needs_packages
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({needs[name] for name in missing}))
        raise UserError(
            f"{application.registered_name} needs {', '.join(missing)}", hint=f"pip install 'peftlab[{extras}]'"
        )


@contextmanager
def _at_line(file: AppFile) -> Iterator[None]:
    """Errors about a key of the application get the file and the line."""
    try:
        yield
    except UserError as error:
        path = tuple((error.where or "").split("."))
        section: Any = file.application
        for key in path:
            if not isinstance(section, Config) or key not in type(section).model_fields:
                raise
            section = getattr(section, key)
        error.where = file.document.where(path)
        raise


def _copy_run(run: SavedRun, target: Path) -> None:
    if target.exists():
        there = SavedRun.open(target)
        if there.record == run.record:
            return
        raise UserError(
            "the folder holds this part from another run", where=str(target), hint="Choose another --output-dir."
        )
    with atomic_folder(target) as partial:
        shutil.copytree(run.folder, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
