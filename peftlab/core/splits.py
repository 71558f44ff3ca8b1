"""Rows of a table, as columns, and the same rows tokenised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Split:
    """Some rows of a table, as columns.

    Args:
        name: ``train``, ``validation`` or ``test``.
        index: The row of each example in the source table, from 0.
        columns: Column name to values; all as long as ``index``.
        source: The table's name, for messages.
        notes: What ``arrange`` has merged, for the record.
        more_sources: Further tables, whose rows are counted on behind those of the first: the number that the first row
            of each has in ``index``, and the table's name.
        form: What the rows are to whoever gave them, for messages: of a table, values of a list, or one value.
    """

    name: str
    index: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    source: str = ""
    notes: Mapping[str, int] = field(default_factory=dict)
    more_sources: Sequence[tuple[int, str]] = ()
    form: Literal["table", "list", "value"] = "table"

    def __len__(self) -> int:
        return len(self.index)

    def table_and_row(self, position: int) -> tuple[str, int]:
        """The table that a row comes from, and the row's place in it, from 0."""
        number = self.index[position]
        first, source = max(((0, self.source), *(each for each in self.more_sources if each[0] <= number)))
        return source, number - first

    def place(self, position: int, *, prefix: str = "") -> dict[str, str | int]:
        """A row's place as a list of examples tells it: ``row``, from 1, and ``table`` where that is a further one."""
        source, row = self.table_and_row(position)
        table: dict[str, str | int] = {} if row == self.index[position] else {f"{prefix}table": source}
        return {f"{prefix}row": row + 1, **table}

    def where(self, position: int) -> str:
        """The place of a row, for messages: ``tweets.csv, row 18`` (rows counted from 1, without the header).

        Of a list it is ``texts[17]``, as programs count.
        """
        source, row = self.table_and_row(position)
        source = source or self.name
        return {"table": f"{source}, row {row + 1}", "list": f"{source}[{row}]", "value": source}[self.form]

    @property
    def of_it(self) -> str:
        """For messages: `` of the test split``; nothing of rows that belong to no split of a run."""
        return f" of the {self.name} split" if self.name in ("train", "validation", "test") else ""


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
