"""A table in memory: what every reader of data gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows as columns.

    Args:
        name: For messages: the file's name.
        columns: Column name to values, all of one length.
        names: The names of all columns of the source, also of those that were not read.
        formats: How the files are written that it was read from; empty where it is no file's.
    """

    name: str
    columns: Mapping[str, Sequence[Any]]
    names: tuple[str, ...]
    formats: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))
