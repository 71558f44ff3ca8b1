"""An image in a table's cell: the path of a file, or its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from peftlab.core.errors import DataError
from peftlab.core.splits import Split

BYTES = "bytes:sha256="
"""Begins the name of an image that a table holds as bytes."""


class ImageFile(str):
    """An image, not yet decoded; as a string it is the path as the table has it, or its bytes' SHA-256.

    So it is written, compared and fingerprinted as any other cell.
    """

    content: bytes | None
    folder: Path | None
    is_confined: bool
    _by_content: str | None = None

    @classmethod
    def at(cls, path: str, folder: Path, *, is_confined: bool = True) -> Self:
        """A file.

        Args:
            path: As the table has it.
            folder: Where relative paths start.
            is_confined: Whether the file must lie below this folder.
        """
        image = cls(path)
        image.content, image.folder, image.is_confined = None, folder, is_confined
        return image

    @classmethod
    def of(cls, content: bytes) -> Self:
        """The bytes of a file."""
        image = cls(BYTES + hashlib.sha256(content).hexdigest())
        image.content, image.folder, image.is_confined = content, None, True
        return image

    def read(self, *, where: str) -> bytes:
        """The bytes.

        Args:
            where: The row, for messages.

        Raises:
            DataError: There is no such file, or it lies outside of the table's folder.
        """
        if self.content is not None:
            return self.content
        assert self.folder is not None  # noqa: S101 - one of both is there
        path = (self.folder / self).resolve()
        if self.is_confined and not path.is_relative_to(self.folder.resolve()):
            raise DataError(
                f"the image {str(self)!r:.80} lies outside of the table's folder",
                where=where,
                hint="Put the images beside the table, or below it, and write relative paths.",
            )
        try:
            return path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            is_address = self.startswith(("http://", "https://"))
            hint = "Images are files: fetch them first, and write their paths." if is_address else None
            raise DataError(f"the image {str(self)!r:.80} cannot be read: {reason}", where=where, hint=hint) from None

    def by_content(self, *, where: str) -> str:
        """Its bytes' SHA-256, which is equal for equal files, whatever they are called; a file is read for it once.

        Args:
            where: The row, for messages.

        Raises:
            DataError: As for :meth:`read`.
        """
        if self._by_content is None:
            named = self.content is not None
            self._by_content = str(self) if named else BYTES + hashlib.sha256(self.read(where=where)).hexdigest()
        return self._by_content


def image_of(value: Any, folder: Path | None, *, is_confined: bool = True) -> Any:
    """An image of what a table holds: a path, bytes, or both in a dictionary, as ``datasets.Image`` has them.

    Args:
        value: Of a cell; what is no image stays as it is, for the checks of the column.
        folder: Where relative paths start; None: paths mean nothing here.
        is_confined: Whether files must lie below this folder.
    """
    if isinstance(value, ImageFile):
        return value
    if isinstance(value, bytes | bytearray):
        return ImageFile.of(bytes(value)) if value else None
    if isinstance(value, Mapping) and value.keys() <= {"bytes", "path"}:
        content = value.get("bytes")
        return image_of(content or value.get("path"), folder, is_confined=is_confined)
    if isinstance(value, str) and folder is not None:
        return ImageFile.at(value, folder, is_confined=is_confined) if value.strip() else None
    return value


def contents_of(split: Split, column: str) -> list[Any]:
    """A column's values, and in the place of images what tells one from another: equal files are equal.

    Raises:
        DataError: A file cannot be read.
    """
    return [
        value.by_content(where=split.where(row)) if isinstance(value, ImageFile) else value
        for row, value in enumerate(split.columns[column])
    ]
