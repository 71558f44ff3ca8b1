"""Folders that the ``datasets`` library has written with ``save_to_disk``: one table, or one a split."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from peftlab.core.errors import DataError, first_line
from peftlab.data.hub import table_of_dataset
from peftlab.data.table import Table


def is_saved_dataset(folder: Path) -> bool:
    """Whether ``save_to_disk`` has written a folder."""
    is_table = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return is_table or (folder / "dataset_dict.json").is_file()


def read_saved_dataset(folder: Path, *, keep: Collection[str] | None) -> dict[str, Table]:
    """A table per split, or one under the name ``""``.

    Raises:
        DataError: The folder is damaged, or a split has no rows.
    """
    return {
        name: table_of_dataset(rows, f"{folder.name}: {name}" if name else folder.name, keep)
        for name, rows in _load(folder).items()
    }


def stream_saved_dataset(folder: Path, *, keep: Collection[str], rows: int) -> tuple[int, Iterator[Table]]:
    """The number of rows of a saved table, and its parts of so many rows; the files stay on disk.

    Raises:
        DataError: The folder is damaged, or holds several splits.
    """
    found = _load(folder)
    if len(found) > 1:
        first = next(iter(found))
        raise DataError(
            f"the folder holds several splits: {', '.join(found)}",
            where=str(folder),
            hint=f"Give the folder of one of them, such as {folder / first}.",
        )
    data = next(iter(found.values()))
    places = range(0, len(data), rows)
    parts = (table_of_dataset(data.select(range(at, min(at + rows, len(data)))), folder.name, keep) for at in places)
    return len(data), parts


def _load(folder: Path) -> dict[str, Any]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # noqa: BLE001 - the library raises whatever its back ends raise
        raise DataError(f"the saved data set is damaged: {first_line(error)}", where=str(folder)) from None
    return {str(name): rows for name, rows in loaded.items()} if isinstance(loaded, dict) else {"": loaded}
