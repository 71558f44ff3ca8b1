"""Files: where peftlab keeps its cache, and writing that leaves either the whole file or nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import reprlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path, PurePath

import platformdirs

from peftlab.core.errors import ConfigError, closest, did_you_mean
from peftlab.core.killed import being_written, dead

_READING_UMASK = threading.Lock()
PARTIAL, RETIRED = ".partial", ".retired"
"""Endings of what is being written, and of what it takes the place of."""
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def cache_folder() -> Path:
    """The folder for what can be fetched or made again: ``$PEFTLAB_CACHE``, else the platform's cache folder."""
    chosen = os.environ.get("PEFTLAB_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("peftlab", appauthor=False))


def path_of(given: object, what: str, *, where: str) -> Path:
    """The path that a program has given.

    Args:
        given: A path, or its text.
        what: It is of, for the message.
        where: The argument's name.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(given, Path | str):
        raise ConfigError(f"{what} is needed, not {reprlib.repr(given)}", where=where)
    return Path(given)


def near_file(path: Path, pattern: str = "*") -> str | None:
    """The hint for what may be a misspelt path: a file or folder beside it with nearly its name; None without one."""
    try:
        near = closest(path.name, (item.name for item in path.parent.glob(pattern)))
    except OSError:
        return None
    return None if near is None else f"Did you mean `{path.with_name(near)}`?"


def near_names(path: Path) -> str | None:
    """The hint for a path that does not exist: near names in the deepest folder of it that does."""
    if path.is_symlink():
        return f"It is a link to {path.readlink()}, and nothing is there."
    if any(sign in path.name for sign in "*?"):
        return "Patterns are not looked for: give a folder, or one file."
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    if not missing.parent.is_dir():
        return None
    try:
        names = [item.name for item in missing.parent.iterdir() if not item.name.startswith(".")]
    except OSError:
        return None
    hint = did_you_mean(missing.name, names) or f"The folder {missing.parent} is empty."
    return hint if missing == path else f"{missing.parent} has no folder `{missing.name}`. {hint}"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name once the block ends without an error.

    Args:
        path: The file to write. What it held before stays until the new content is complete and on disk.

    Yields:
        The path to write to.
    """
    _make_place_for(path)
    with being_written(lambda: _new_file(path)) as partial:
        try:
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its name once the block ends without an error.

    Args:
        path: The folder to make. An existing one is replaced.

    Yields:
        The folder to fill.
    """
    _make_place_for(path)
    with being_written(lambda: _new_folder(path, PARTIAL)) as partial:
        try:
            yield partial
            _open_up(partial)
            if path.exists():
                with being_written(lambda: _new_folder(path, RETIRED)) as retired:
                    try:
                        path.replace(retired / path.name)
                        partial.replace(path)
                    finally:
                        _take_away(retired, path)
            else:
                partial.replace(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def delete_folder(path: Path) -> None:
    """Delete a folder, if it is there, so that nobody takes the half of it that a kill leaves for the whole."""
    _take_leftovers(path)
    if path.is_dir():
        with being_written(lambda: _new_folder(path, PARTIAL)) as aside:
            path.replace(aside / path.name)
            shutil.rmtree(aside)


def put_back(path: Path) -> None:
    """Put a folder back that a killed process had moved aside for a new one; only for who alone writes there."""
    for leftover in unfinished_in(path.parent):
        if leftover.name.startswith(f".{path.name}.") and leftover.name.endswith(RETIRED):
            _put_back(leftover, path)


def bring_back(path: Path) -> None:
    """Put a folder back that a process of this machine had moved aside for a new one when it was killed.

    For who looks for the folder before it is written again: else there is none, and another one may take its place.
    """
    if not os.path.lexists(path):
        for leftover in unfinished_in(path.parent):
            if leftover.name.startswith(_beginning(path)) and leftover.name.endswith(RETIRED):
                with dead(leftover) as is_dead:
                    if is_dead:
                        _take_away(leftover, path)


def _put_back(retired: Path, path: Path) -> None:
    if not path.exists() and (retired / path.name).exists():
        (retired / path.name).replace(path)


def try_to_write(path: Path) -> None:
    """Make a file beside a path and take it away: rights alone do not tell of full, read-only and special file systems.

    Raises:
        OSError: None can be made.
    """
    _take_leftovers(path)
    with being_written(lambda: _new_file(path)) as partial:
        partial.unlink()


def _make_place_for(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _take_leftovers(path)


def _take_leftovers(path: Path) -> None:
    """Take away what killed processes have left half-written of the same.

    Only this machine's: some file systems let no other machine see whether one is still being written.
    """
    of_path = re.compile(rf"{re.escape(_beginning(path))}[^.]+({re.escape(PARTIAL)}|{re.escape(RETIRED)})")
    for leftover in unfinished_in(path.parent):
        if of_path.fullmatch(leftover.name):
            with dead(leftover) as is_dead:
                if is_dead:
                    _take_away(leftover, path)


def _take_away(leftover: Path, path: Path) -> None:
    with contextlib.suppress(OSError):  # another user's, in a folder for all: it is in nobody's way
        if not leftover.is_dir():
            leftover.unlink(missing_ok=True)
            return
        if leftover.name.endswith(RETIRED):
            _put_back(leftover, path)
        shutil.rmtree(leftover)


def _beginning(path: Path) -> str:
    """With what the names of this machine's temporary files for a path begin."""
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
    return f".{path.name}.{machine}-"


def _new_file(path: Path) -> Path:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_beginning(path), suffix=PARTIAL)
    os.close(descriptor)
    return Path(name)


def _new_folder(path: Path, ending: str) -> Path:
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=_beginning(path), suffix=ending))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON that a person can read, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def begins_with(path: Path, text: str) -> bool:
    """Whether a file begins with a text; not where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(text)) == text.encode()
    except OSError:
        return False


def is_unfinished(path: PurePath) -> bool:
    """Whether a process that was killed while it wrote has left this file, or a folder that it is in."""
    return any(part.startswith(".") and part.endswith((PARTIAL, RETIRED)) for part in path.parts)


def names_in(folder: Path) -> set[str]:
    """What lies in a folder, but for what killed processes have left half-written; nothing where it is no folder."""
    there = folder.iterdir() if folder.is_dir() else ()
    return {path.name for path in there if not is_unfinished(PurePath(path.name))}


def unfinished_in(folder: Path) -> list[Path]:
    """What processes that were killed while they wrote have left in a folder, itself and not below."""
    try:
        return [path for path in folder.iterdir() if is_unfinished(PurePath(path.name))]
    except OSError:  # written to, and not read
        return []


def as_os_error(error: BaseException) -> BaseException:
    """The same error; of a disk that is full or broken always Python's own.

    Libraries that are written in Rust, as safetensors and tokenizers, say its number in their text alone.
    """
    if isinstance(error, RuntimeError) and getattr(error.__context__, "errno", None) == errno.ELOOP:
        return error.__context__ or error  # of links in a circle, pathlib makes an error of its own up to Python 3.12
    found = None if isinstance(error, OSError) else re.search(r"\(os error (\d+)\)", str(error))
    number = int(found[1]) if found else 0
    return OSError(number, os.strerror(number)) if number in _OF_DISKS else error


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _open_up(folder: Path) -> None:
    """Give a folder and all in it the modes of what a user makes: temporary files, some libraries' too, are private."""
    file_mode, folder_mode = 0o666 & ~_umask(), 0o777 & ~_umask()
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(folder_mode if path.is_dir() else file_mode)


def _umask() -> int:
    """The process's umask, which can only be read by setting it.

    One thread reads at a time: of two, one would put back what the other had set for a moment, and it would stay so.
    What others make in the meantime is private.
    """
    with _READING_UMASK:
        current = os.umask(0o077)
        os.umask(current)
    return current
