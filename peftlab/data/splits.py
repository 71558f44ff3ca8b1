"""From a recipe's ``data`` section to the splits of a run: read, check, deduplicate, cut, cap. In that order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peftlab.core.errors import ConfigError, DataError
from peftlab.core.image_file import contents_of
from peftlab.core.record import DataSummary
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.data.columns import check_columns, drop_missing_rows, refuse_all_missing, split_of_table
from peftlab.data.cutting import cap_splits, cut_splits, keep_train_rows
from peftlab.data.data_config import DataConfig
from peftlab.data.duplicates import count_conflicts, count_shared_texts, remove_duplicates
from peftlab.data.garbled import count_garbled
from peftlab.data.numbers import DecimalWatch, plain_numbers
from peftlab.data.row_rules import RowRules
from peftlab.data.sources import load_tables
from peftlab.data.unlabeled import load_unlabeled
from peftlab.data.used_keys import refuse_unread


@dataclass(frozen=True)
class LoadedData:
    """The splits of a run, and what the record says of them.

    Args:
        splits: ``train``, and ``validation`` and ``test`` where there are any; rows in the order of their source.
        summary: Fingerprint, rows and counts.
        lost_classes: Classes that the source's training rows have and those that are left have not, each with the
            key of the recipe that has taken their rows.
        unlabeled: Texts without labels; None: the source has none.
        unlabeled_copies: Changed copies of some of them, which carry their rows' places in the source; None: none are
            made.
        earlier: The rows that the run learned newly which this one goes on from; None: it goes on from none.
        drawn_from: All rows of the table that the training rows were drawn from, where the recipe names them or gives
            their draw a seed of its own; None: else.
        beside: Columns that are read for somebody else than the task.
    """

    splits: dict[str, Split]
    summary: DataSummary
    lost_classes: Mapping[str, str] = field(default_factory=dict)
    unlabeled: Split | None = None
    unlabeled_copies: Split | None = None
    earlier: Split | None = None
    drawn_from: Split | None = None
    beside: Collection[str] = ()

    def fingerprint_of(self, splits: Mapping[str, Split]) -> str:
        """By what runs are compared that have these splits of the data."""
        return _fingerprint_of(splits, self.drawn_from, self.beside)


def load_splits(
    config: DataConfig,
    rules: RowRules,
    *,
    seed: int,
    folder: Path | None = None,
    offline: bool = False,
    report: ProgressCallback | None = None,
) -> LoadedData:
    """Load the data of a run. Equal arguments and files give equal splits, on every machine.

    Equal texts are those that agree after Unicode NFKC, case folding and collapsing of white space (see
    :func:`peftlab.data.duplicates.text_key`). Splits are cut only where the source has none, the test split first.

    Args:
        config: The ``data`` section.
        rules: What the task says of the rows.
        seed: The recipe's seed; ``data.split_seed`` goes before it.
        folder: Relative paths start here (the recipe's folder).
        offline: Forbid the network.
        report: Takes lines that tell a person what is going on.

    Raises:
        SourceError: The source cannot be reached.
        DataError: It cannot be read, a column is not there or holds something else, or a split would be empty.
        ConfigError: A key does not go with the source.
    """
    seed = seed if config.split_seed is None else config.split_seed
    tables = load_tables(
        config, keep=rules.columns, images=rules.image_columns, folder=folder, offline=offline, report=report
    )
    refuse_unread(config, tables.values(), has_numbers=bool(rules.number_columns))
    splits: dict[str, Split] = {
        name: split_of_table(name, table, rules.columns, optional=rules.optional_columns)
        for name, table in tables.items()
    }
    splits, notes = _arrange(splits, config, rules)
    notes["conflicting_labels"] = count_conflicts(
        splits, rules.keys, () if rules.labels_are_texts else rules.label_columns
    )
    classes = _ClassWatch(rules, splits["train"])
    if config.deduplicate:
        splits, removed = remove_duplicates(splits, rules.keys, rules.told_apart_by)
        notes.update(removed)
        _refuse_empty(splits, "all of its texts are in another split too")
        _refuse_one_row(splits["train"], rules, removed["duplicates_removed"])
        classes.look(splits["train"], "data.deduplicate")
    notes |= _found_once(splits, rules)
    splits = cut_splits(splits, config, seed, rules)
    classes.look(splits["train"], "data.validation_fraction or data.test_fraction")
    everything = splits["train"]
    splits = keep_train_rows(splits, config)
    classes.look(splits["train"], "data.train_rows")
    there = len(splits["train"])
    notes |= _scarce(splits["train"], config, rules)
    splits = cap_splits(splits, config, seed, rules)
    classes.look(splits["train"], "data.max_train_examples")
    if config.draw_seed is not None and len(splits["train"]) == there:
        raise ConfigError(
            f"all {there:,} training rows are learned, so another seed draws no others",
            where="data.draw_seed",
            hint="Set data.max_train_examples or data.max_train_examples_per_class to fewer, or leave draw_seed out; "
            "in a suite, resample_train.",
        )
    if not config.deduplicate:
        notes["texts_in_two_splits"] = count_shared_texts(splits, rules.keys)
    unlabeled, counts = load_unlabeled(config, rules, splits, seed=seed, folder=folder, offline=offline, report=report)
    notes |= counts
    draws = config.train_rows is not None or config.draw_seed is not None
    drawn_from = everything if draws else None
    summary = DataSummary(
        fingerprint=_fingerprint_of(splits, drawn_from, rules.beside),
        rows={name: len(split) for name, split in splits.items()},
        notes=notes,
    )
    return LoadedData(splits, summary, classes.lost, unlabeled, drawn_from=drawn_from, beside=rules.beside)


class _ClassWatch:
    """Notes which classes have no training row any more, and the key of the recipe that has taken the last.

    Args:
        rules: What the task says of the rows.
        train: The source's training rows.
    """

    def __init__(self, rules: RowRules, train: Split) -> None:
        self._rules, self._found = rules, set(rules.classes(train))
        self.lost: dict[str, str] = {}

    def look(self, train: Split, key: str) -> None:
        """Look at what is left after a step."""
        self.lost = dict.fromkeys(self._found - set(self._rules.classes(train)), key) | self.lost


def _arrange(splits: dict[str, Split], config: DataConfig, rules: RowRules) -> tuple[dict[str, Split], dict[str, Any]]:
    """The task's columns of the source's, without rows that lack something; and notes for the record."""
    notes: dict[str, Any] = {}
    for column in rules.number_columns:
        splits = _with_plain_numbers(splits, column, config)
    for split in splits.values():
        for column in rules.nullable_columns:
            refuse_all_missing(split, column)
    if config.drop_missing:
        empty = [*rules.optional_columns, *rules.nullable_columns]
        complete = {name: drop_missing_rows(split, optional=empty) for name, split in splits.items()}
        arranged = {name: rules.arrange(split) for name, split in complete.items()}
        # What only shows nothing, such as a text of blanks, is missing once it is arranged.
        shown = {name: drop_missing_rows(split, optional=empty) for name, split in arranged.items()}
        notes["rows_dropped_missing"] = _rows(splits) - _rows(complete) + _rows(arranged) - _rows(shown)
        splits = _refuse_empty(shown, "every row has a missing value")
    else:
        splits = {name: rules.arrange(split) for name, split in splits.items()}
    for split in splits.values():
        notes |= {name: notes.get(name, 0) + count for name, count in split.notes.items() if count}
    for split in splits.values():
        check_columns(split, rules.text_columns, rules.label_columns)
    garbled = count_garbled(splits, rules.text_columns)
    return splits, notes | ({"texts_garbled": garbled} if garbled else {})


def summarise_splits(splits: Mapping[str, Split]) -> DataSummary:
    """What the record says of splits that a task has made itself."""
    return DataSummary(fingerprint=fingerprint(splits), rows={name: len(split) for name, split in splits.items()})


def fingerprint(splits: Mapping[str, Split], *, without: Collection[str] = ()) -> str:
    """SHA-256 over every row's place and values, without some columns: equal for equal data, and only then.

    Of an image the bytes count, not what its file is called.

    Raises:
        DataError: An image cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(splits):
        split = splits[name]
        columns = sorted(set(split.columns) - set(without))
        digest.update(json.dumps([name, columns]).encode() + b"\n")
        known = [contents_of(split, column) for column in columns]
        for index, *values in zip(split.index, *known, strict=True):
            digest.update(json.dumps([index, values], default=str, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _fingerprint_of(splits: Mapping[str, Split], drawn_from: Split | None, beside: Collection[str]) -> str:
    """Which rows are learned of one table says nothing of the data, as with ``data.prune``: so all of them count."""
    known = splits if drawn_from is None else {**splits, "train": drawn_from}
    return fingerprint(known, without=beside)


def _with_plain_numbers(splits: Mapping[str, Split], column: str, config: DataConfig) -> dict[str, Split]:
    """The splits with a column of numbers written in one way, which all of them decide together."""
    values = [value for split in splits.values() for value in split.columns[column]]
    decimal = DecimalWatch(column, next(iter(splits.values())).source, config.decimal).read(values)
    return {
        name: replace(split, columns={**split.columns, column: plain_numbers(split.columns[column], decimal)})
        for name, split in splits.items()
    }


def _found_once(splits: Mapping[str, Split], rules: RowRules) -> dict[str, list[str]]:
    """The classes with one row in all splits together."""
    found = Counter(name for split in splits.values() for name in rules.strata(split) or ())
    once = sorted(name for name, count in found.items() if count == 1)
    return {"classes_with_one_row": once} if once else {}


def _scarce(train: Split, config: DataConfig, rules: RowRules) -> dict[str, int]:
    """How many classes have fewer training rows than are asked of each."""
    wanted, counts = config.max_train_examples_per_class or 0, Counter(rules.strata(train) or ())
    scarce = sum(count < wanted for count in counts.values())
    return {"classes_with_fewer_rows_than_asked": scarce} if scarce else {}


def _rows(splits: Mapping[str, Split]) -> int:
    return sum(len(split) for split in splits.values())


def _refuse_one_row(train: Split, rules: RowRules, copies: int) -> None:
    """Of rows with labels: a language model may go on with the one text that there is."""
    if len(train) == 1 and copies and rules.label_columns:
        columns = ", ".join(f"`{name}`" for name in rules.text_columns)
        raise DataError(
            f"all {copies + 1:,} training rows hold the same in {columns}, so they are copies of one row",
            where=train.source,
            hint="Choose another column, or set `data.deduplicate: false` to keep copies.",
        )


def _refuse_empty(splits: dict[str, Split], reason: str) -> dict[str, Split]:
    for name, split in splits.items():
        if len(split) == 0:
            raise DataError(f"the {name} split is empty: {reason}", where=split.source)
    return splits
