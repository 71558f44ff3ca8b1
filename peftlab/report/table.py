"""Tables that every format of the report writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Marked:
    """A cell that is ``good``, ``bad`` or ``muted``."""

    text: str
    kind: str

    def __str__(self) -> str:
        return self.text


Cell = str | Marked


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        title: Its heading.
        columns: Heads of the columns; the first column names the rows.
        rows: Cells, as many in each row as there are columns.
        note: What one must know to read it.
        words: Positions of columns that hold text; the first one always does. All others are figures.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    words: frozenset[int] = field(default=frozenset())

    def is_text(self, position: int) -> bool:
        """Whether a column holds text rather than figures."""
        return position == 0 or position in self.words


def markdown_table(table: Table) -> str:
    """The table in Markdown."""
    rules = [":--" if table.is_text(position) else "--:" for position in range(len(table.columns))]
    lines = [_line(table.columns), _line(rules), *(_line([str(cell) for cell in row]) for row in table.rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def markdown_text(text: str) -> str:
    """Text that Markdown takes as it stands, on one line, and for no list where it begins with a dash or a number."""
    return re.sub(r"^(\d*)([-+.)])(?=\s|-|$)", r"\1\\\2", _escaped(text))


def _escaped(text: str) -> str:
    # GitHub takes what is between dollars for mathematics, and between tildes for struck out.
    text = re.sub(r"[\\`*_|<>\[\]#~$]|&(?=#?\w+;)", r"\\\g<0>", text)
    return " ".join(text.split()) or "\N{NO-BREAK SPACE}"
