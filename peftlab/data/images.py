"""Images in tables: cells become images that know where their file lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from peftlab.core.image_file import ImageFile, image_of
from peftlab.data.table import Table

COLUMN = "image"
"""The column of images in a folder of folders."""
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def with_images(table: Table, columns: Sequence[str], folder: Path | None, *, is_confined: bool = True) -> Table:
    """A table whose cells in some columns are images.

    Args:
        table: As it was read.
        columns: Those that hold images.
        folder: Where relative paths start; None: the source has no folder.
        is_confined: Whether the files must lie below it. They need not where a program or a command names them.
    """
    found = {
        name: [image_of(value, folder, is_confined=is_confined) for value in table.columns[name]]
        for name in columns
        if name in table.columns
    }
    return replace(table, columns={**table.columns, **found}) if found else table


def image_chunks(
    chunks: Iterator[tuple[Table, int]], columns: Sequence[str], folder: Path | None, *, is_confined: bool = True
) -> Iterator[tuple[Table, int]]:
    """The same for the chunks of a stream."""
    for table, done in chunks:
        yield with_images(table, columns, folder, is_confined=is_confined), done


def image_at(path: Path, root: Path) -> ImageFile:
    """The image of a file below a folder."""
    return ImageFile.at(path.relative_to(root).as_posix(), root)
