"""New rows beside those of the runs that came before: what is learned again, and on what forgetting is measured.

No test row may be a training row, of this run or of an earlier one. So new training rows that an earlier run is tested
on are left out, with texts without labels that are nearly the same, and so are new test and validation rows that one
has learned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from peftlab.core.errors import DataError
from peftlab.core.past import EARLIER_TEST
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.data.augmenting import join_rows
from peftlab.data.columns import take
from peftlab.data.duplicates import text_keys
from peftlab.data.ordering import draw_first, random_order
from peftlab.data.splits import LoadedData, fingerprint
from peftlab.data.unlabeled import HELD_OUT, without_near
from peftlab.preparation.overlap import without_rows_of

MUST_NOT_MEET = {"train": ("validation", "test"), "validation": ("train",), "test": ("train", "validation")}
"""Earlier splits whose rows may not be in a new one."""
REPLAYED = "rows_replayed"


def without_earlier_rows(own: LoadedData, earlier: Sequence[LoadedData], task: Task) -> LoadedData:
    """The new rows, less those that would meet an earlier split; they are counted.

    Args:
        own: The new rows.
        earlier: Of each run before, the oldest first.
        task: Says when rows are equal.

    Raises:
        DataError: No row of a split is left.
    """
    splits, counts = dict(own.splits), dict[str, int]()

    def without(split: Split, name: str) -> Split:
        theirs = [data.splits[other] for data in earlier for other in MUST_NOT_MEET[name] if other in data.splits]
        return without_rows_of(split, theirs, task)

    for name, split in own.splits.items():
        splits[name] = without(split, name)
        if not len(splits[name]):
            raise DataError(f"no new {name} row is left: an earlier run knows all of these texts", where=split.source)
        if len(splits[name]) < len(split):
            counts[f"{name}_rows_of_earlier_runs"] = len(split) - len(splits[name])
    drawn_from = None if own.drawn_from is None else without(own.drawn_from, "train")
    unlabeled = own.unlabeled
    if unlabeled is not None:
        held_out = [data.splits[name] for data in earlier for name in HELD_OUT if name in data.splits]
        unlabeled, lost = without_near(unlabeled, held_out, list(unlabeled.columns))
        if not len(unlabeled):
            raise DataError("no text without a label is left: an earlier run is tested on all", where=unlabeled.source)
        counts |= {"unlabeled_rows_of_earlier_runs": lost, "unlabeled_rows": len(unlabeled)}
    summary = own.summary.model_copy(update={"notes": {**own.summary.notes, **counts}})
    return replace(own, splits=splits, summary=summary, drawn_from=drawn_from, unlabeled=unlabeled)


def with_earlier_rows(
    own: LoadedData, earlier: Sequence[LoadedData], task: Task, *, replay: float, seed: int, split_seed: int
) -> LoadedData:
    """The data of a run that goes on.

    The training rows are the new ones and a share of the earlier ones, the validation rows half new and half earlier
    ones. Each earlier run's test rows are a split of their own. As with all rows that are added to learn from, the
    summary's fingerprint and counts are of the data without those that are learned again. Rows of earlier tables are
    counted on behind the new ones, so that no two rows of a split have one number.

    Args:
        own: The new rows, from :func:`without_earlier_rows`.
        earlier: Of each run before, the oldest first.
        task: Of the recipe.
        replay: The share of each earlier run's training rows.
        seed: Of their draw.
        split_seed: Of the draw of earlier validation rows: runs that are compared have the same ones.
    """
    splits, drawn = dict(own.splits), dict[int, Split]()
    starts = list(itertools.accumulate(map(_count_of_numbers, [own, *earlier])))
    if "validation" in splits:
        known = {at: data.splits["validation"] for at, data in enumerate(earlier) if "validation" in data.splits}
        room = len(splits["validation"])
        total = sum(map(len, known.values()))
        drawn = {
            at: draw_rows(each, math.ceil(room * len(each) / total - 1e-9), task, split_seed)
            for at, each in known.items()
        }
        splits["validation"] = join_rows([splits["validation"], *drawn.values()])
    for number, data in enumerate(earlier, start=1):
        if "test" in data.splits:
            test = data.splits["test"]
            splits[f"{EARLIER_TEST}{number}"] = replace(test, name=f"{EARLIER_TEST}{number}")
    summary = own.summary.model_copy(
        update={"fingerprint": own.fingerprint_of(splits), "rows": {name: len(split) for name, split in splits.items()}}
    )
    if drawn:  # the fingerprint is of the rows as each table counts them
        splits["validation"] = _joined(own.splits["validation"], drawn, starts)
    again = {
        at: draw_rows(data.splits["train"], math.ceil(replay * len(data.splits["train"]) - 1e-9), task, seed)
        for at, data in enumerate(earlier)
        if replay
    }
    if again:
        notes = {**summary.notes, REPLAYED: sum(map(len, again.values()))}
        added = fingerprint({str(number): split for number, split in again.items()})
        summary = summary.model_copy(update={"notes": notes, "added_rows_fingerprint": added})
        splits["train"] = _joined(splits["train"], again, starts)
    return replace(own, splits=splits, summary=summary, earlier=earlier[-1].splits["train"])


def draw_rows(split: Split, count: int, task: Task, seed: int) -> Split:
    """So many rows of a split at most, of every class about its share; a smaller draw is within a larger one."""
    if count >= len(split):
        return split
    order = random_order(text_keys(split, task.text_columns()), seed)
    return take(split, draw_first(order, task.strata(split), count, seed))


def _joined(own: Split, others: Mapping[int, Split], starts: Sequence[int]) -> Split:
    """New rows and those of earlier tables, each of which begins at a number of its own."""
    parts = [replace(each, index=[starts[at] + row for row in each.index]) for at, each in others.items()]
    more = [(starts[at], each.source) for at, each in others.items()]
    return replace(join_rows([own, *parts]), more_sources=more)


def _count_of_numbers(data: LoadedData) -> int:
    """One more than the greatest number that a row of the data has."""
    return 1 + max(max(split.index, default=-1) for split in data.splits.values())
