"""From a recipe's ``data`` section to the splits of a run: read, check, deduplicate, cut, cap. In that order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peftlab.core.errors import DataError
from peftlab.core.record import DataSummary
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.data.columns import check_columns, drop_missing_rows, refuse_all_missing, split_of_table, take
from peftlab.data.data_config import SPLIT_NAMES, DataConfig
from peftlab.data.duplicates import Keys, count_conflicts, count_shared_texts, remove_duplicates, text_key, text_keys
from peftlab.data.garbled import count_garbled
from peftlab.data.numbers import DecimalWatch, plain_numbers
from peftlab.data.ordering import draw_first, draw_share, random_order
from peftlab.data.sources import load_tables

Strata = Callable[[Split], list[str] | None]
Arrange = Callable[[Split], Split]
Classes = Callable[[Split], Collection[str]]


@dataclass(frozen=True)
class LoadedData:
    """The splits of a run, and what the record says of them.

    Args:
        splits: ``train``, and ``validation`` and ``test`` where there are any; rows in the order of their source.
        summary: Fingerprint, rows and counts.
        lost_classes: Classes that the source's training rows have and those that are left have not, each with the
            key of the recipe that has taken their rows.
    """

    splits: dict[str, Split]
    summary: DataSummary
    lost_classes: Mapping[str, str] = field(default_factory=dict)


def load_splits(
    config: DataConfig,
    *,
    seed: int,
    text_columns: Sequence[str],
    label_columns: Sequence[str],
    strata: Strata = lambda split: None,
    arrange: Arrange = lambda split: split,
    source_columns: Sequence[str] | None = None,
    optional_columns: Sequence[str] = (),
    nullable_columns: Sequence[str] = (),
    number_columns: Sequence[str] = (),
    classes: Classes = lambda split: (),
    compared_texts: Callable[[Split], Sequence[Sequence[Any]]] | None = None,
    labels_are_texts: bool = False,
    folder: Path | None = None,
    offline: bool = False,
    report: ProgressCallback | None = None,
) -> LoadedData:
    """Load the data of a run. Equal arguments and files give equal splits, on every machine.

    Equal texts are those that agree after Unicode NFKC, case folding and collapsing of white space (see
    :func:`peftlab.data.duplicates.text_key`). Splits are cut only where the source has none, the test split first.

    Args:
        config: The ``data`` section.
        seed: The recipe's seed; ``data.split_seed`` goes before it.
        text_columns: The columns that hold text, or lists of tokens; two rows that agree in them are duplicates.
        label_columns: The columns that hold what is to be predicted.
        strata: The class of each row of a split, to give every split the same shares of them; None: no classes.
        arrange: Makes the text and label columns of the source's.
        source_columns: The columns to read; None: the text and label columns themselves.
        optional_columns: Those of them that the source may lack.
        nullable_columns: Those of them in which an empty value says something, and is not missing.
        number_columns: Those of them that hold numbers: commas before decimals become points.
        classes: The classes that occur in a split.
        compared_texts: For each row the texts that make it equal to another; None: its text columns.
        labels_are_texts: Whether rows with equal texts are duplicates only where their labels are equal too; they never
            get into two splits in any case.
        folder: Relative paths start here (the recipe's folder).
        offline: Forbid the network.
        report: Takes lines that tell a person what is going on.

    Raises:
        SourceError: The source cannot be reached.
        DataError: It cannot be read, a column is not there or holds something else, or a split would be empty.
        ConfigError: A key does not go with the source.
    """
    seed = seed if config.split_seed is None else config.split_seed
    columns = list(dict.fromkeys(source_columns or [*text_columns, *label_columns]))
    tables = load_tables(config, keep=columns, folder=folder, offline=offline, report=report)
    splits: dict[str, Split] = {
        name: split_of_table(name, table, columns, optional=optional_columns) for name, table in tables.items()
    }
    for column in number_columns:
        splits = _with_plain_numbers(splits, column, config)
    notes: dict[str, Any] = {}
    for split in splits.values():
        for column in nullable_columns:
            refuse_all_missing(split, column)
    if config.drop_missing:
        empty = [*optional_columns, *nullable_columns]
        complete = {name: drop_missing_rows(split, optional=empty) for name, split in splits.items()}
        arranged = {name: arrange(split) for name, split in complete.items()}
        # What only shows nothing, such as a text of blanks, is missing once it is arranged.
        shown = {name: drop_missing_rows(split, optional=empty) for name, split in arranged.items()}
        notes["rows_dropped_missing"] = _rows(splits) - _rows(complete) + _rows(arranged) - _rows(shown)
        splits = _refuse_empty(shown, "every row has a missing value")
    else:
        splits = {name: arrange(split) for name, split in splits.items()}
    for split in splits.values():
        notes |= {name: notes.get(name, 0) + count for name, count in split.notes.items() if count}
    for split in splits.values():
        check_columns(split, text_columns, label_columns)
    garbled = count_garbled(splits, text_columns)
    notes |= {"texts_garbled": garbled} if garbled else {}

    def keys(split: Split) -> list[bytes]:
        if compared_texts is None:
            return text_keys(split, text_columns)
        return [text_key(texts) for texts in compared_texts(split)]

    notes["conflicting_labels"] = count_conflicts(splits, keys, () if labels_are_texts else label_columns)
    found = set(classes(splits["train"]))
    lost: dict[str, str] = {}
    if config.deduplicate:
        splits, removed = remove_duplicates(splits, keys, label_columns if labels_are_texts else ())
        notes.update(removed)
        _refuse_empty(splits, "all of its texts are in another split too")
        lost |= dict.fromkeys(found - set(classes(splits["train"])), "data.deduplicate")
    notes |= _found_once(splits, strata)
    splits = _cut(splits, config, seed, text_columns, strata, keys)
    lost = dict.fromkeys(found - set(classes(splits["train"])), "data.validation_fraction or data.test_fraction") | lost
    splits = _cap(splits, config, seed, text_columns, strata)
    lost = dict.fromkeys(found - set(classes(splits["train"])), "data.max_train_examples") | lost
    if not config.deduplicate:
        notes["texts_in_two_splits"] = count_shared_texts(splits, keys)
    rows = {name: len(split) for name, split in splits.items()}
    return LoadedData(splits, DataSummary(fingerprint=fingerprint(splits), rows=rows, notes=notes), lost)


def summarise_splits(splits: Mapping[str, Split]) -> DataSummary:
    """What the record says of splits that a task has made itself."""
    return DataSummary(fingerprint=fingerprint(splits), rows={name: len(split) for name, split in splits.items()})


def fingerprint(splits: Mapping[str, Split]) -> str:
    """SHA-256 over every row's place and values: equal for equal data, and only then."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        split = splits[name]
        columns = sorted(split.columns)
        digest.update(json.dumps([name, columns]).encode() + b"\n")
        for index, *values in zip(split.index, *(split.columns[column] for column in columns), strict=True):
            digest.update(json.dumps([index, values], default=str, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _cut(
    splits: Mapping[str, Split],
    config: DataConfig,
    seed: int,
    text_columns: Sequence[str],
    strata: Strata,
    keys: Keys,
) -> dict[str, Split]:
    """Cut the test and then the validation split off train, where the source has none."""
    train = splits["train"]
    found = dict(splits)
    for name, fraction in (("test", config.test_fraction), ("validation", config.validation_fraction)):
        if name in splits or fraction == 0:
            continue
        order = random_order(text_keys(train, text_columns), seed)
        drawn = _draw(train, order, fraction, seed, strata, keys(train) if config.deduplicate else None)
        if not drawn:
            raise DataError(
                f"{len(train)} row is too few to cut off a {name} split",
                where=train.source,
                hint=f"Give more rows, or set `data.{name}_fraction: 0`.",
            )
        chosen = set(drawn)
        found[name] = take(train, drawn, name=name)
        train = take(train, [at for at in range(len(train)) if at not in chosen])
    found["train"] = train
    return {name: found[name] for name in SPLIT_NAMES if name in found}


def _draw(
    train: Split, order: Sequence[bytes], fraction: float, seed: int, strata: Strata, keys: Sequence[bytes] | None
) -> list[int]:
    """Positions of a share of the rows, of which those with equal keys are drawn as one."""
    places: dict[bytes, list[int]] = {}
    for at, key in enumerate(keys or ()):
        places.setdefault(key, []).append(at)
    if keys is None or len(places) == len(keys):
        return draw_share(order, strata(train), fraction, seed)
    groups = list(places.values())
    firsts = [rows[0] for rows in groups]
    drawn = draw_share([order[at] for at in firsts], strata(take(train, firsts)), fraction, seed)
    return sorted(row for at in drawn for row in groups[at])


def _with_plain_numbers(splits: Mapping[str, Split], column: str, config: DataConfig) -> dict[str, Split]:
    """The splits with a column of numbers written in one way, which all of them decide together."""
    values = [value for split in splits.values() for value in split.columns[column]]
    decimal = DecimalWatch(column, next(iter(splits.values())).source, config.decimal).read(values)
    return {
        name: replace(split, columns={**split.columns, column: plain_numbers(split.columns[column], decimal)})
        for name, split in splits.items()
    }


def _found_once(splits: Mapping[str, Split], strata: Strata) -> dict[str, list[str]]:
    """The classes with one row in all splits together."""
    found = Counter(name for split in splits.values() for name in strata(split) or ())
    once = sorted(name for name, count in found.items() if count == 1)
    return {"classes_with_one_row": once} if once else {}


def _cap(
    splits: Mapping[str, Split], config: DataConfig, seed: int, text_columns: Sequence[str], strata: Strata
) -> dict[str, Split]:
    """Draw the rows of splits that are larger than wanted."""
    limits = {
        "train": config.max_train_examples,
        "validation": config.max_validation_examples,
        "test": config.max_test_examples,
    }
    capped = {}
    for name, split in splits.items():
        limit = limits[name]
        if limit is None or limit >= len(split):
            capped[name] = split
            continue
        order = random_order(text_keys(split, text_columns), seed)
        capped[name] = take(split, draw_first(order, strata(split), limit, seed))
    return capped


def _rows(splits: Mapping[str, Split]) -> int:
    return sum(len(split) for split in splits.values())


def _refuse_empty(splits: dict[str, Split], reason: str) -> dict[str, Split]:
    for name, split in splits.items():
        if len(split) == 0:
            raise DataError(f"nothing is left of the {name} split: {reason}", where=split.source)
    return splits
