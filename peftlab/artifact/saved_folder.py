"""What lies in a folder: a run, an export of one, or neither; and the recipe in a run's folder."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from peftlab.core.config import Document, parse_yaml
from peftlab.core.errors import ConfigError, UserError, did_you_mean
from peftlab.core.files import bring_back, names_in
from peftlab.core.plugins import missing_packages
from peftlab.core.record import (
    ENSEMBLE_NAME,
    PACK_INDEX_NAME,
    RECIPE_NAME,
    RECORD_NAME,
    no_folder,
    read_record,
    run_of,
)
from peftlab.models.remote_code import of_another_hand
from peftlab.recipe.schema import Recipe, build_recipe

EXPORT_NAME = "peftlab_export.json"


def find_folder(path: Path | str) -> Path:
    """The folder of the run or export that a user names; a run's ``adapter/``, ``model/`` or record will do.

    Raises:
        UserError: There is no such folder (near names are in the hint), or the run is in a pack, without its weights.
    """
    bring_back(Path(path))
    folder = run_of(path)
    _refuse_packed(folder)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise no_folder(folder)
    near = [name for name in names_in(folder.parent) if (folder.parent / name).is_dir()]
    raise UserError("no such folder", where=str(folder), hint=did_you_mean(folder.name, near))


def _refuse_packed(folder: Path) -> None:
    if (folder / PACK_INDEX_NAME).is_file():
        raise UserError(
            "this is a pack: the records and predictions of a suite's runs, without their weights",
            where=str(folder),
            hint=f"`peftlab reproduce {shlex.quote(str(folder))} CELL --output-dir DIR` makes one of the runs again; "
            "then use DIR.",
        )
    pack = next((place for place in folder.parents if (place / PACK_INDEX_NAME).is_file()), None)
    if pack is not None and not folder.exists():
        raise UserError(
            "the suite's runs are packed: the pack has their records and predictions, and no weights",
            where=str(folder),
            hint=f"`peftlab reproduce {shlex.quote(str(pack))} {folder.name} --output-dir DIR` makes the run again; "
            "then use DIR.",
        )


def is_run(folder: Path) -> bool:
    """Whether a run has ended in this folder, well or badly."""
    return (folder / RECORD_NAME).is_file()


def is_export(folder: Path) -> bool:
    """Whether this is the folder of an export."""
    return (folder / EXPORT_NAME).is_file()


def is_ensemble(folder: Path) -> bool:
    """Whether this is the folder of an ensemble."""
    return (folder / ENSEMBLE_NAME).is_file()


def read_run_recipe(folder: Path | str) -> Recipe:
    """The resolved recipe that a run's folder holds.

    Raises:
        UserError: There is none, or it is damaged.
    """
    folder = Path(folder)
    document = read_recipe_document(folder)
    with naming_plugins(_versions(folder)):
        return build_recipe(document, default_name=folder.name)


@contextlib.contextmanager
def naming_plugins(versions: Mapping[str, str | None]) -> Iterator[None]:
    """Within the block, an unknown name in a recipe that has run before is told with the plugins that are not here.

    Args:
        versions: Of the packages that it ran with.

    Raises:
        UserError: In the place of ``ConfigError``, where such a package is not installed.
    """
    try:
        yield
    except ConfigError as error:  # the recipe was right where it ran
        missing = missing_packages(versions)
        if not missing:
            raise
        raise UserError(
            error.message.partition("\n")[0],
            where=error.where,
            hint=f"The run was made with {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed here: install what brings that name.",
        ) from None


def _versions(folder: Path) -> Mapping[str, str | None]:
    """Of the packages that a run's record names; none where there is no record."""
    try:
        versions = read_record(folder).environment.get("versions")
    except UserError:
        return {}
    return versions if isinstance(versions, Mapping) else {}


def read_recipe_document(folder: Path) -> Document:
    """The recipe that a run's folder holds, as plain values; code of its model runs only if it has run here before.

    Raises:
        UserError: There is none, or it is damaged.
    """
    path = folder / RECIPE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"the run has no {RECIPE_NAME}, so it cannot be used", where=str(folder), hint=_LOST) from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise UserError("the run's recipe is damaged: it is not text", where=str(path), hint=_LOST) from None
    document = parse_yaml(text, source=str(path), folder=folder)
    return replace(document, values=of_another_hand(document.values))


_LOST = "Put the file back; the record.json beside it holds the same recipe under `recipe`."
