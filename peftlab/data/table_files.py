"""Files as streams of bytes, unpacked as they are read, whatever they are packed with.

A small file can be made to unpack to any size, so what comes out is counted, by the rule that holds for wheels.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from peftlab.core.errors import DataError
from peftlab.core.files import near_names
from peftlab.data.file_types import COMPRESSED, HEAD_BYTES, type_of_bytes, type_of_file
from peftlab.data.wheels import largest_unpacked

PACKED_ENDINGS = (".gz", ".gzip", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".zip")
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)
_XZ_MEMORY = 256 * 2**20
_BLOCK = 2**20


@dataclass(frozen=True)
class TableFile:
    """A file on disk, or one in a zip archive.

    Args:
        path: Of the file or the archive.
        member: Its name in the archive.
    """

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return self.path.name if self.member is None else f"{self.path.name}: {self.member}"

    @property
    def unpacked_name(self) -> str:
        """Its own name, without the ending of what it is packed with."""
        name = self.path.name if self.member is None else PurePosixPath(self.member).name
        stem, dot, ending = name.rpartition(".")
        return stem if dot and f".{ending.lower()}" in PACKED_ENDINGS else name

    @property
    def suffix(self) -> str:
        """The ending that tells the format."""
        return PurePosixPath(self.unpacked_name).suffix.lower()

    @property
    def is_packed(self) -> bool:
        """Whether it must be unpacked to be read."""
        return self.member is not None or type_of_file(self.path) in COMPRESSED

    @contextmanager
    def open(self) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
        """The unpacked bytes, and a function that tells how many bytes of the file on disk have been read.

        Raises:
            DataError: It cannot be read, is damaged, or would unpack to far more than it should (also while reading).
        """
        with ExitStack() as stack:
            try:
                raw = stack.enter_context(self.path.open("rb"))
                unpacked = stack.enter_context(self._unpack(raw))
            except zipfile.BadZipFile as error:
                raise DataError(f"the archive is damaged: {error}", where=self.name) from None
            except OSError as error:
                raise DataError(f"cannot be read: {error.strerror or error}", where=self.name) from None
            if unpacked is raw:
                yield raw, raw.tell
                return
            bounded = _Bounded(unpacked, largest_unpacked(self.path), self.name)
            stream = stack.enter_context(io.BufferedReader(bounded, _BLOCK))
            if type_of_bytes(stream.peek(HEAD_BYTES)[:HEAD_BYTES]) == "tar":
                raise DataError("this is a tar archive", where=self.name, hint="Unpack it, and give a file or folder.")
            yield stream, raw.tell

    @contextmanager
    def open_seekable(self) -> Iterator[BinaryIO]:
        """The bytes as a file that can be read in any order; what is packed is unpacked to a file without a name."""
        with self.open() as (stream, _):
            if not self.is_packed:
                yield stream
                return
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(stream, copy, _BLOCK)
                copy.seek(0)
                yield copy

    def read_bytes(self) -> bytes:
        """All unpacked bytes.

        Raises:
            DataError: As for :meth:`open`; or there are none.
        """
        with self.open() as (stream, _):
            data = stream.read()
        if not data:
            raise DataError("the file is empty", where=self.name)
        return data

    def _unpack(self, raw: BinaryIO) -> Any:
        if self.member is not None:
            return zipfile.ZipFile(raw).open(self.member)
        kind = type_of_bytes(raw.read(HEAD_BYTES))
        raw.seek(0)
        if kind == "gzip":
            return gzip.GzipFile(fileobj=raw)
        if kind == "bzip2":
            return bz2.BZ2File(raw)
        if kind == "Zstandard":
            import pyarrow as pa

            return pa.CompressedInputStream(raw, "zstd")
        return io.BufferedReader(_Xz(raw)) if kind == "xz" else raw


def table_files(path: Path) -> list[TableFile]:
    """The file, or those in a zip archive, without what systems put beside them.

    Raises:
        DataError: The archive is damaged, empty or encrypted.
    """
    try:
        if type_of_file(path) != "zip":
            return [TableFile(path)]
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir() and not is_junk(info.filename)]
    except zipfile.BadZipFile as error:
        raise DataError(f"the archive is damaged: {error}", where=path.name) from None
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), hint=near_names(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=path.name) from None
    if not members:
        raise DataError("the archive holds no file", where=path.name)
    if any(info.flag_bits & 1 for info in members):
        raise DataError("the archive is encrypted", where=path.name, hint="Unpack it, and give the file.")
    return [TableFile(path, info.filename) for info in members]


def the_only_file(path: Path) -> TableFile:
    """The file of a path that must be one table.

    Raises:
        DataError: It is an archive of several.
    """
    files = table_files(path)
    if len(files) > 1:
        raise DataError(
            f"the archive holds {len(files)} files: {', '.join(str(file.member) for file in files[:8])}",
            where=path.name,
            hint="Unpack it, and give the file that is meant.",
        )
    return files[0]


def is_junk(name: str) -> bool:
    """Whether a system has put a file there by itself, such as thumbnails of a folder's pictures."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1].startswith((".", "~$")) or parts[-1] in {"Thumbs.db", "desktop.ini"}


class _Bounded(io.RawIOBase):
    """Unpacked bytes, as many as are allowed."""

    def __init__(self, source: Any, limit: int, name: str) -> None:
        self._source, self._left, self._limit, self._name = source, limit, limit, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._source.read(len(buffer))
        except _DAMAGED as error:
            raise DataError(f"the packed file is damaged: {error}", where=self._name) from None
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"the file would unpack to more than {self._limit:,} bytes, too many for a table",
                where=self._name,
                hint="If it is what it should be, unpack it yourself, and give the unpacked file.",
            )
        buffer[: len(data)] = data
        return len(data)


class _Xz(io.RawIOBase):
    """An xz file; unlike Python's own reader it refuses one that asks for gigabytes of memory to be unpacked."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._decoder = source, self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = b""
        while not data:
            block = b""
            if self._decoder.eof:  # one file may be several streams, one after the other
                block = self._decoder.unused_data.lstrip(b"\0") or self._source.read(_BLOCK).lstrip(b"\0")
                if not block:
                    return 0
                self._decoder = self._new()
            elif self._decoder.needs_input:
                block = self._source.read(_BLOCK)
                if not block:
                    raise EOFError("it ends too early")
            data = self._decoder.decompress(block, len(buffer))
        buffer[: len(data)] = data
        return len(data)
