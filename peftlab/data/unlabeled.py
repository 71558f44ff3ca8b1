"""Texts without labels: read beside the splits, and kept apart from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from peftlab.core.errors import DataError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.data.columns import check_columns, drop_missing_rows, split_of_table, take
from peftlab.data.data_config import UNLABELED, DataConfig, SplitSources
from peftlab.data.near_duplicates import first_alike
from peftlab.data.ordering import random_order
from peftlab.data.row_rules import RowRules
from peftlab.data.sources import load_table

HELD_OUT = ("test", "validation")


def load_unlabeled(
    config: DataConfig,
    rules: RowRules,
    splits: Mapping[str, Split],
    *,
    seed: int,
    folder: Path | None,
    offline: bool,
    report: ProgressCallback | None,
) -> tuple[Split | None, dict[str, int]]:
    """The texts that the source gives without labels, and counts of those that were left out.

    Left out are rows without a text, those that a split has too, exact copies, and what shares nine tenths of its words
    with a validation or test row. Whatever the table has in its label columns is not read.

    Args:
        config: The ``data`` section.
        rules: What the task says of the rows.
        splits: Of the run.
        seed: Draws ``data.max_unlabeled_examples`` rows.
        folder: Relative paths start here.
        offline: Forbid the network.
        report: Takes lines that tell a person what is going on.

    Returns:
        None where the source names none.

    Raises:
        SourceError: The source cannot be reached.
        DataError: It cannot be read, lacks a column, or no row is left.
    """
    if not isinstance(config.source, SplitSources) or config.source.unlabeled is None:
        return None, {}
    columns = list(rules.text_columns)
    table = load_table(
        config.source.unlabeled, UNLABELED, config, keep=columns, folder=folder, offline=offline, report=report
    )
    whole = rules.arrange(split_of_table(UNLABELED, table, columns))
    split = drop_missing_rows(whole)
    check_columns(split, columns, ())
    notes = {"unlabeled_rows_without_text": len(whole) - len(split)}
    seen = {key: name for name, own in list(splits.items())[::-1] for key in rules.keys(own)}
    fresh: list[int] = []
    for at, key in enumerate(rules.keys(split)):
        if key in seen:
            reason = f"unlabeled_rows_in_{seen[key]}" if seen[key] else "unlabeled_rows_there_twice"
            notes[reason] = notes.get(reason, 0) + 1
        else:
            seen[key] = ""
            fresh.append(at)
    split = take(split, fresh)
    order = random_order(rules.keys_to_draw_by(split), seed)
    drawn = sorted(range(len(split)), key=order.__getitem__)[: config.max_unlabeled_examples]
    split = take(split, sorted(drawn))
    split, near = without_near(split, [splits[name] for name in splits if name in HELD_OUT], columns)
    notes["unlabeled_rows_near_held_out_rows"] = near
    if not len(split):
        raise DataError(
            "no text without a label is left: all are in train, validation or test, or show nothing",
            where=table.name,
            hint="Give other texts as data.source.unlabeled.",
        )
    return split, {**notes, "unlabeled_rows": len(split)}


def without_near(split: Split, held_out: Sequence[Split], columns: Sequence[str]) -> tuple[Split, int]:
    """The rows that are not nearly the same as a held-out one, and how many are."""
    known = [row for own in held_out for row in zip(*(own.columns[name] for name in columns), strict=True)]
    alike = first_alike(known, list(zip(*(split.columns[name] for name in columns), strict=True)))
    kept = [at for at, other in enumerate(alike) if other is None or other >= len(known)]
    return take(split, kept), len(split) - len(kept)
