"""The texts to choose from: rows of a table, without those that the run knows and those that are there twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.data.columns import check_columns, split_of_table, take
from peftlab.data.data_config import DataConfig
from peftlab.data.duplicates import text_key
from peftlab.data.images import with_images
from peftlab.data.near_duplicates import first_alike
from peftlab.data.table import Table
from peftlab.data.tables import read_table

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pool:
    """Rows without a label.

    Args:
        table: All of them, with all their columns.
        split: Those that can be chosen; ``index`` is their row in the table.
        left_out: How many rows were left out, by the reason.
    """

    table: Table
    split: Split
    left_out: Mapping[str, int]

    def row(self, position: int) -> dict[str, Any]:
        """A row of the table as it was read."""
        at = self.split.index[position]
        return {name: values[at] for name, values in self.table.columns.items()}


def read_pool(path: Path, config: DataConfig, task: Task) -> tuple[Table, Split]:
    """Read a table whose text columns have the names of the task's.

    Raises:
        DataError: It cannot be read, has no rows, lacks a column, or a text of it is none.
    """
    table = read_table(path, config)
    if not len(table):
        raise DataError("the pool is empty: there are no rows", where=table.name)
    columns = task.input_columns()
    images = [name for name in task.image_columns() if name in columns]
    split = task.tidy_rows(split_of_table("pool", with_images(table, images, path.parent), columns))
    check_columns(split, columns, ())
    return table, split


def leave_out(table: Table, split: Split, known: Mapping[str, Split], task: Task) -> Pool:
    """Leave out rows that a split of the run has too, and copies within the pool, exact or near.

    Args:
        table: The pool.
        split: All of its rows.
        known: The run's splits.
        task: Says which texts make a row.

    Raises:
        DataError: No row is left.
    """
    texts = task.compared_texts(split)
    of_run = {
        name: task.compared_texts(_with_columns(known[name], split)) for name in (*SPLITS, *known) if name in known
    }
    counts = {f"in_{name}": 0 for name in of_run} | {f"near_{name}": 0 for name in of_run}
    counts |= {"duplicates": 0, "near_duplicates": 0}
    seen = {text_key(row): f"in_{name}" for name, rows in reversed(of_run.items()) for row in rows}
    fresh = []
    for at, row in enumerate(texts):
        key = text_key(row)
        if key in seen:
            counts[seen[key]] += 1
        else:
            seen[key] = "duplicates"
            fresh.append(at)
    owners = [name for name, rows in of_run.items() for _ in rows]
    alike = first_alike([row for rows in of_run.values() for row in rows], [texts[at] for at in fresh])
    for other in alike:
        if other is not None:
            counts[f"near_{owners[other]}" if other < len(owners) else "near_duplicates"] += 1
    kept = [at for at, other in zip(fresh, alike, strict=True) if other is None]
    pool = Pool(table, take(split, kept), counts)
    if not kept:
        raise DataError(
            f"no row of the pool is left: {told(counts)}",
            where=table.name,
            hint="Give texts that the run has not seen.",
        )
    return pool


def _with_columns(split: Split, other: Split) -> Split:
    """A split with the columns of another one alone: a pool of texts has no documents that answer them."""
    return replace(split, columns={name: values for name, values in split.columns.items() if name in other.columns})


def told(left_out: Mapping[str, int]) -> str:
    """The counts in words, without those that are zero; empty where all are."""
    return ", ".join(f"{count} {_in_words(reason)}" for reason, count in left_out.items() if count)


def _in_words(reason: str) -> str:
    if reason == "duplicates":
        return "there twice"
    if reason == "near_duplicates":
        return "nearly there twice"
    kind, _, name = reason.partition("_")
    return f"in the run's {name} rows" if kind == "in" else f"nearly in the run's {name} rows"
