"""Rows that two data sets share: a model must not be tested on what it, or one that it learns from, was trained on."""

from __future__ import annotations

from collections.abc import Iterable

from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.data.columns import take
from peftlab.data.duplicates import text_key


def rows_not_in(split: Split, others: Iterable[Split], task: Task) -> list[int]:
    """The positions of the rows of a split that stand in no other one, as the task compares rows."""
    seen = {key for other in others for key in _keys(other, task)}
    return [at for at, key in enumerate(_keys(split, task)) if key not in seen]


def without_rows_of(split: Split, others: Iterable[Split], task: Task) -> Split:
    """The split without the rows that stand in another one."""
    kept = rows_not_in(split, others, task)
    return split if len(kept) == len(split) else take(split, kept)


def _keys(split: Split, task: Task) -> list[bytes]:
    return [text_key(texts) for texts in task.compared_texts(split)]
