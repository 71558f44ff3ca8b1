"""What a table's columns look like, and what a task makes of them: the words between `peftlab init` and the tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ColumnKind = Literal["text", "word", "number", "time", "words", "chat", "mapping", "list", "empty"]
"""text: strings of several words. word: short strings. words: a list of strings in each row. chat: a list of messages.
list: of anything else."""
TEXT_WORDS = 3
"""Strings with more words than this are texts."""


@dataclass(frozen=True)
class ColumnFacts:
    """A column as far as it was looked at.

    Args:
        name: Of the column.
        kind: What its values are.
        values: Those that were looked at, without missing ones.
        rows: How many rows were looked at.
        distinct: How many different values they have.
        mean_words: Of a value, for columns of strings, or of an item of ``words``; two characters of Chinese, Japanese
            or Korean count as one word.
        at: Its place in the table, from 0 for the first to 1 for the last.
    """

    name: str
    kind: ColumnKind
    values: Sequence[Any]
    rows: int
    distinct: int
    mean_words: float = 0.0
    at: float = 0.0

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.rows - len(self.values)

    @property
    def distinct_share(self) -> float:
        """1.0 where no value occurs twice."""
        return self.distinct / max(len(self.values), 1)

    @property
    def is_whole(self) -> bool:
        """Whether all its numbers are whole ones."""
        return self.kind == "number" and all(float(value).is_integer() for value in self.values)


def with_first_texts(columns: Sequence[ColumnFacts]) -> list[ColumnFacts]:
    """The columns, and behind them the first item of those that hold lists of texts, such as ``answers.0``."""
    found = list(columns)
    for column in columns:
        if column.kind == "words" and column.mean_words > TEXT_WORDS:
            firsts = [items[0] for items in column.values if items and items[0].strip()]
            name, distinct = f"{column.name}.0", len(set(firsts))
            found.append(ColumnFacts(name, "text", firsts, column.rows, distinct, column.mean_words, column.at))
    return found


@dataclass(frozen=True)
class TaskGuess:
    """A way in which a task could learn from a table.

    Args:
        keys: Of the recipe's section ``task``, without ``type``.
        sure: From 0 to 1; the surest guess of all tasks is taken.
        reasons: Why, for each key that needs a reason.
        texts: The columns that the model reads.
        labels: The columns of classes; empty where there are none.
        reads_left_to_right: Whether the base model must write text.
        max_length_by_texts: Whether ``max_length`` should follow the texts; False: the task reads pieces of them.
        metric: Another than the task's first, where that suits the data better.
    """

    keys: Mapping[str, Any]
    sure: float
    reasons: Mapping[str, str] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    reads_left_to_right: bool = False
    metric: str | None = None
    max_length_by_texts: bool = True


Guesser = Callable[[Sequence[ColumnFacts]], list[TaskGuess]]
"""What a task makes of a table's columns: nothing, one guess, or several."""


def no_guess(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """The task is never proposed for a table."""
    return []
