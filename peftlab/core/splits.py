"""Rows of a table, as columns, and the same rows tokenised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Split:
    """Some rows of a table, as columns.

    Args:
        name: ``train``, ``validation`` or ``test``.
        index: The row of each example in the source table, from 0.
        columns: Column name to values; all as long as ``index``.
        source: The table's name, for messages.
        notes: What ``arrange`` has merged, for the record.
    """

    name: str
    index: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    source: str = ""
    notes: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def where(self, position: int) -> str:
        """The place of a row, for messages: ``tweets.csv, row 18`` (rows counted from 1, without the header)."""
        return f"{self.source or self.name}, row {self.index[position] + 1}"


Example = dict[str, Any]
"""One encoded example: what the task's ``collate`` takes, by convention ``input_ids`` among it."""


@dataclass(frozen=True)
class EncodedSplit:
    """A split, tokenised.

    Args:
        name: ``train``, ``validation`` or ``test``.
        index: The row of each example in the source table.
        examples: The encoded rows.
        notes: Counts that the record should hold, such as truncated texts.
    """

    name: str
    index: Sequence[int]
    examples: Sequence[Example]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)
