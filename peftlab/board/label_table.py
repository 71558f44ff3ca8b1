"""Rows that get their labels by hand: each answer is on disk before the next row is shown."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.artifact.saved_export import open_saved
from peftlab.core.errors import DataError, UnsupportedError, UserError
from peftlab.data.data_config import DataConfig
from peftlab.data.other_keys import under_keys
from peftlab.data.table import Table
from peftlab.data.tables import read_table
from peftlab.inference.outputs import check_output, write_answers

SELECTED = "select_"
"""How the columns begin that `peftlab select` has put beside a row."""
Texts = tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What is asked of each row.

    Args:
        text_columns: That are shown.
        label_columns: That are written: one of a class or of several; or one for each class, with 0 and 1.
        names: Of the classes.
        several: Whether a text has any number of them.
        separator: Between several in one column.
    """

    text_columns: tuple[str, ...]
    label_columns: tuple[str, ...]
    names: tuple[str, ...]
    several: bool = False
    separator: str = ","

    @classmethod
    def of_run(cls, folder: Path) -> Question:
        """What a run answers, and people shall answer too.

        Raises:
            UserError: There is no run, or its task does not give texts a class.
        """
        saved = open_saved(folder)
        task, labels = saved.recipe.task, saved.labels
        if not labels or not task.pools_answers or task.image_columns():
            raise UnsupportedError(
                f"texts are given classes by hand, and {task.registered_name} does not ask that",
                where=str(folder),
                hint="Give a run of text_classification, or of another task with classes of texts.",
            )
        several = not task.has_class_probabilities
        separator = str(getattr(task, "label_separator", ","))
        return cls(task.text_columns(), task.label_columns(), labels, several, separator)

    def written(self, labels: Sequence[str]) -> dict[str, str]:
        """The label columns of a row."""
        if len(self.label_columns) > 1:
            return {name: str(int(name in labels)) for name in self.label_columns}
        return {self.label_columns[0]: self.separator.join(labels)}

    def read(self, row: Mapping[str, Any], where: str) -> tuple[str, ...]:
        """The labels that stand in a row.

        Raises:
            DataError: One of them is no class: it would be lost when the row is written again.
        """
        if len(self.label_columns) > 1:
            return tuple(name for name in self.label_columns if str(row[name]).strip() in ("1", "1.0", "True", "true"))
        value = "" if row[self.label_columns[0]] is None else str(row[self.label_columns[0]])
        found = [part.strip() for part in value.split(self.separator)] if self.several else [value.strip()]
        for name in found:
            if name and name not in self.names:
                raise DataError(
                    f"the label `{name}` is none of the classes, which are {', '.join(self.names)}",
                    where=where,
                    hint="Name every class by --class, or give another --output.",
                )
        return tuple(name for name in self.names if name in found)


class LabelTable:
    """Rows, and the labels that they have so far.

    What stands in the output already is taken up: labels of these rows, and rows of earlier selections, which stay.

    Args:
        path: The table of rows, such as `peftlab select` writes it.
        output: The table that is written: the rows that have a label, as ``data.source`` takes them.
        question: What is asked.

    Raises:
        UserError: A table cannot be read, lacks a column, or the output may not be written.
    """

    def __init__(self, path: Path, output: Path, question: Question) -> None:
        self.question, self.output = question, output
        with under_keys("TABLE"):
            table = read_table(path, DataConfig(source="data"))
        _check_columns(table, question.text_columns, str(path))
        _check_written(_rows(table), path, output)
        self.rows = [row for row in _rows(table) if any(self.texts(row))]
        if not self.rows:
            raise DataError("there is no row with a text", where=str(path))
        self._answers: dict[int, tuple[str, ...]] = {}
        self._others: list[dict[str, Any]] = []
        self._undo: list[tuple[int, tuple[str, ...] | None]] = []
        self._lock = threading.Lock()
        check_output(output, inputs=[path], force=True)
        if output.is_file():
            self._take_up()
        self._sign = self._signature()

    def texts(self, row: Mapping[str, Any]) -> Texts:
        """The texts of a row."""
        return tuple("" if row[name] is None else str(row[name]) for name in self.question.text_columns)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def done(self) -> int:
        """How many rows have a label."""
        return len(self._answers)

    @property
    def can_undo(self) -> bool:
        """Whether an answer was given since the page was opened."""
        return bool(self._undo)

    def answer_of(self, at: int) -> tuple[str, ...] | None:
        """The labels of a row; None: it was not asked yet."""
        return self._answers.get(at)

    def counts(self) -> Mapping[str, int]:
        """How often each class was given, in their order."""
        found = Counter(name for labels in self._answers.values() for name in labels)
        return {name: found[name] for name in self.question.names}

    def next_after(self, at: int) -> int | None:
        """The next row without a label, from the beginning once the end is reached; None: all have one."""
        order = [*range(at + 1, len(self.rows)), *range(at + 1)]
        return next((each for each in order if each not in self._answers), None)

    def answer(self, at: int, labels: Sequence[str]) -> None:
        """Give a row its labels, on disk.

        Raises:
            UserError: Somebody else has written the output, or it cannot be written.
        """
        with self._lock:
            before = self._answers.get(at)
            self._change(at, tuple(labels))
            self._undo.append((at, before))

    def undo(self) -> int | None:
        """Take the last answer back, on disk; gives its row."""
        with self._lock:
            if not self._undo:
                return None
            at, before = self._undo[-1]
            self._change(at, before)
            self._undo.pop()
            return at

    def _change(self, at: int, labels: tuple[str, ...] | None) -> None:
        if self._signature() != self._sign:
            raise UserError(
                "the file was changed by another program; nothing was written over it",
                where=str(self.output),
                hint="Start `peftlab label` again: it takes up what stands there.",
            )
        answers = {place: own for place, own in self._answers.items() if place != at}
        answers |= {at: labels} if labels is not None else {}
        self._write(answers)
        self._answers, self._sign = answers, self._signature()

    def _write(self, answers: Mapping[int, tuple[str, ...]]) -> None:
        every = dict.fromkeys(name for row in [*self.rows, *self._others] for name in row)
        columns = [name for name in every if not name.startswith(SELECTED)]
        columns = [name for name in columns if name not in self.question.label_columns]
        own = [{**self.rows[at], **self.question.written(answers[at])} for at in sorted(answers)]
        names = [*columns, *self.question.label_columns]
        written = [{name: row.get(name) for name in names} for row in [*self._others, *own]]
        if written:
            write_answers(self.output, written)
        else:
            self.output.unlink(missing_ok=True)

    def _take_up(self) -> None:
        with under_keys("--output"):
            table = read_table(self.output, DataConfig(source="data"))
        _check_columns(table, (*self.question.text_columns, *self.question.label_columns), str(self.output))
        places: dict[Texts, deque[int]] = {}
        for at, row in enumerate(self.rows):
            places.setdefault(self.texts(row), deque()).append(at)
        for number, row in enumerate(_rows(table), start=1):
            left = places.get(self.texts(row))
            if not left:
                self._others.append(row)
                continue
            place = left.popleft()  # of rows with equal texts each has a label of its own
            self.rows[place] |= row  # with the columns that somebody has added there
            if (labels := self.question.read(row, f"{self.output}, row {number}")) or self.question.several:
                self._answers[place] = labels

    def _signature(self) -> tuple[int, int] | None:
        try:
            found = self.output.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size


def _rows(table: Table) -> list[dict[str, Any]]:
    names = list(table.columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*table.columns.values(), strict=True)]


def _check_written(rows: Sequence[Mapping[str, Any]], path: Path, output: Path) -> None:
    """See that every row can be written, and read again, before the first answer is given.

    Raises:
        DataError: One cannot.
    """
    for number, row in enumerate(rows, start=1):
        for name, value in row.items():
            where = f"{path}, row {number}, column `{name}`"
            if not isinstance(value, str) or name.startswith(SELECTED):
                continue
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise DataError(
                    "it holds half of a character (a lone surrogate), which no file can hold",
                    where=where,
                    hint="Mend the row, or leave it out.",
                )
            if "\0" in value and output.suffix.lower() == ".csv":
                raise DataError(
                    "it holds a NUL character, with which a CSV file could not be read again",
                    where=where,
                    hint="Give an --output that ends in .jsonl or .parquet.",
                )


def _check_columns(table: Table, columns: Sequence[str], where: str) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(
            f"there is no column `{missing[0]}`",
            where=where,
            hint=f"It has {', '.join(map(str, table.columns))}. Name them by --text and --column, or give --run.",
        )
