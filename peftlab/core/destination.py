"""Where a verb may write: never over what a user has, never over its own input, never into a folder of peftlab's.

An existing file is refused unless the user says ``--force``: a table of predictions bears no mark of who wrote it, and
a mark would not tell whether it has been edited since. The one exception is a page of ``peftlab report``, which begins
with a mark and is made to be made anew. Everything is checked before the work starts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from peftlab.core.errors import UserError
from peftlab.core.files import bring_back, try_to_write
from peftlab.core.record import CELLS, ENSEMBLE_NAME, METRICS_NAME, RECIPE_NAME, RECORD_NAME, RECORDS_NAME, SUITE_NAME

SEARCH_NAME = "search.json"
"""What a search is, in its folder."""
PARTS_OF_A_SEARCH = ("trials", "winner", "replaced", "logs")
"""Folders of a search that hold its runs."""
PAGE_ENDINGS = ("", ".html", ".htm")
OUTPUT = "--output"
"""The option that names a file to write."""
PARTS_OF_A_SUITE = (CELLS, "tuning", "replaced", "logs")
"""Folders of a suite that hold its runs."""


def check_file(
    path: Path,
    *,
    inputs: Iterable[Path | str],
    force: bool,
    ours: str = "",
    is_ours: Callable[[Path], bool] = lambda path: False,
) -> None:
    """Refuse a file that ``--output`` names, and that must not, or cannot, be written.

    Args:
        path: To write.
        inputs: Files and folders that the verb reads; what is not on disk is passed over.
        force: An existing file may be replaced. Inputs, and what lies in a folder of peftlab's, may not even so.
        ours: What this verb writes and may write anew, such as ``report of peftlab``; empty: nothing.
        is_ours: Whether an existing file is one of these.

    Raises:
        UserError: It must not be written, or cannot be.
    """
    _check_name(path, OUTPUT)
    if os.path.isdir(path):  # noqa: PTH112 - unlike pathlib's, these tests raise nothing for a name that is too long
        raise UserError("this is a folder", where=f"{OUTPUT} {path}", hint="Give the name of a file.")
    if os.path.lexists(path) and not _is_plain(path):
        raise UserError("this is no plain file", where=f"{OUTPUT} {path}", hint="Give the name of a file.")
    _check_inputs(path, OUTPUT, inputs)
    _check_owner(path, OUTPUT)
    if os.path.lexists(path) and not force and not is_ours(path):
        raise UserError(
            f"the file exists{f' and is not a {ours}' if ours else ''}; it is not overwritten unless you say so",
            where=f"{OUTPUT} {path}",
            hint="Choose another name, or add --force to replace it.",
        )
    _check_writable(path, OUTPUT)


def check_page(path: Path) -> None:
    """Refuse to write a page under a name that says something else.

    Raises:
        UserError: The name has another ending.
    """
    if path.suffix.lower() not in PAGE_ENDINGS:
        raise UserError(
            "a page is written, and the name says something else",
            where=f"{OUTPUT} {path}",
            hint=f"Name it {path.with_suffix('.html').name}.",
        )


def check_folder(path: Path, *, option: str, inputs: Iterable[Path | str] = (), as_a_whole: bool = False) -> None:
    """Refuse a folder that must not, or cannot, be made where it is wanted, or be written in.

    Args:
        path: To make, or one that is there. Whether it may hold something already, the verb knows.
        option: That named it.
        inputs: Files and folders that the verb reads; what is not on disk is passed over.
        as_a_whole: It is made beside its place and then put there, so that one which is there is replaced.

    Raises:
        UserError: It lies in an input or in a folder of peftlab's, or cannot be made or written in.
    """
    _check_name(path, option)
    bring_back(path)
    _check_inputs(path, option, inputs)
    _check_owner(path, option)
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
        raise UserError("this is a link that leads nowhere", where=f"{option} {path}", hint="Choose another place.")
    is_there = os.path.isdir(path)  # noqa: PTH112
    if is_there:
        check_writable(path, where=f"{option} {path}")
    if as_a_whole or not is_there:
        _check_writable(path, option)


def check_writable(folder: Path, *, where: str, name: str = "peftlab", hint: str = "Choose another place.") -> None:
    """Refuse a folder in which nothing can be written.

    Args:
        folder: That is there.
        where: What the user has named.
        name: Of what is to be written.
        hint: What to do about it.

    Raises:
        UserError: Nothing can be written in it.
    """
    try:
        try_to_write(folder / name)
    except OSError as error:
        raise UserError(f"nothing can be written in {folder}: {error.strerror}", where=where, hint=hint) from None


def inputs_of_recipe(values: Mapping[str, Any]) -> list[str]:
    """The addresses that a recipe's run reads: its model, its tokenizer, its teachers, its data.

    Args:
        values: A recipe as plain values.
    """
    model, data = values.get("model"), values.get("data")
    found = [model.get("path"), model.get("tokenizer")] if isinstance(model, Mapping) else []
    source = data.get("source") if isinstance(data, Mapping) else None
    training = values.get("training")
    teachers = training.get("distillation") if isinstance(training, Mapping) else None
    found += teachers.get("teachers") or [] if isinstance(teachers, Mapping) else []
    continues = values.get("continues")
    found += [continues.get("run")] if isinstance(continues, Mapping) else []
    found += list(source.values()) if isinstance(source, Mapping) else [source]
    return [text for text in found if isinstance(text, str) and text]


def owner_of(path: Path) -> tuple[Path, str] | None:
    """The folder of peftlab's that a place lies in, however it is spelled, and what that folder is; None: in none."""
    for place in {Path(os.path.abspath(path)), Path(os.path.realpath(path))}:  # noqa: PTH100
        for folder in place.parents:
            kind = _kind_of(folder, place.relative_to(folder).parts[0])
            if kind is not None:
                return folder, kind
    return None


def _kind_of(folder: Path, below: str) -> str | None:
    """What of peftlab's a folder is, for something below it that begins with a name."""

    def has(name: str) -> bool:
        return os.path.isfile(folder / name)  # noqa: PTH113

    if has("peftlab_export.json"):
        return "an export"
    # A recipe alone may be the user's; a run that is at work has no record yet.
    if has(RECORD_NAME) or (has(RECIPE_NAME) and (has(".lock") or has(METRICS_NAME))):
        return "the folder of a run"
    if has(ENSEMBLE_NAME):
        return "an ensemble"
    if has(SUITE_NAME) and has(RECORDS_NAME):
        return "a pack"
    if has(SUITE_NAME) and below in PARTS_OF_A_SUITE:
        return "a suite's folder, which keeps its runs there"
    if has(SEARCH_NAME) and below in PARTS_OF_A_SEARCH:
        return "a search's folder, which keeps its runs there"
    return None


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a link that leads nowhere, or in a circle
        return True


def _check_name(path: Path, option: str) -> None:
    """A dash means standard output to other programs: nobody wants a file of that name."""
    if path == Path("-"):
        raise UserError(
            "`-` is no name, and files are not written to standard output", where=f"{option} -", hint="Give a name."
        )


def _check_inputs(path: Path, option: str, inputs: Iterable[Path | str]) -> None:
    for given in inputs:
        source = Path(given)
        if not os.path.exists(source):  # noqa: PTH110
            continue
        is_same = os.path.exists(path) and path.samefile(source)  # noqa: PTH110
        is_inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(source))
        if is_same or is_inside:
            raise UserError(
                "this is an input, and inputs are never overwritten" if is_same else f"this lies in the input {source}",
                where=f"{option} {path}",
                hint="Choose another place.",
            )


def _check_owner(path: Path, option: str) -> None:
    owner = owner_of(path)
    if owner is not None:
        folder, kind = owner
        raise UserError(
            f"{folder} is {kind}; nothing else is written into it",
            where=f"{option} {path}",
            hint="Choose a place outside of it.",
        )


def _check_writable(path: Path, option: str) -> None:
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not os.path.isdir(folder):  # noqa: PTH112
        raise UserError(f"{folder} is not a folder", where=f"{option} {path}", hint="Choose another place.")
    check_writable(folder, where=f"{option} {path}", name=path.name)
