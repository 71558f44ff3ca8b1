"""Rows are drawn: for the splits that the source lacks, and from splits that are larger than wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peftlab.core.errors import ConfigError, DataError
from peftlab.core.splits import Split
from peftlab.data.columns import take
from peftlab.data.data_config import SPLIT_NAMES, DataConfig, Fold
from peftlab.data.ordering import draw_first, draw_share, random_order
from peftlab.data.row_rules import RowRules, Strata


def cut_splits(
    splits: Mapping[str, Split],
    config: DataConfig,
    seed: int,
    rules: RowRules,
) -> dict[str, Split]:
    """Cut the test and then the validation split off train, where the source has none.

    Raises:
        ConfigError: A fold is asked for, and the source has a validation split of its own.
        DataError: There are too few rows to cut a split off.
    """
    train = splits["train"]
    found = dict(splits)
    if config.fold is not None and "validation" in splits:
        raise ConfigError(
            "the source has a validation split of its own, so no fold is cut",
            where="data.fold",
            hint="Leave it out, or give the rows as one table.",
        )
    for name, fraction in (("test", config.test_fraction), ("validation", config.validation_fraction)):
        fold = config.fold if name == "validation" else None
        if name in splits or (fraction == 0 and fold is None):
            continue
        drawn = (
            _drawn(train, config, seed, rules, fraction) if fold is None else _fold(train, config, seed, rules, fold)
        )
        if not drawn:
            one_text = f"all {len(train):,} rows have one text, which is too little"
            few = "1 row is too few" if len(train) == 1 else one_text
            raise DataError(
                f"{few} to make a {name} split",
                where=train.source,
                hint=f"Give more rows, or set `data.{name}_fraction: 0`.",
            )
        chosen = set(drawn)
        found[name] = take(train, drawn, name=name)
        train = take(train, [at for at in range(len(train)) if at not in chosen])
    found["train"] = train
    return {name: found[name] for name in SPLIT_NAMES if name in found}


def keep_train_rows(splits: Mapping[str, Split], config: DataConfig) -> dict[str, Split]:
    """The splits with those training rows that the recipe names, if it names some.

    Raises:
        DataError: A row is not in the training split.
    """
    if config.train_rows is None:
        return dict(splits)
    train = splits["train"]
    places = {row: at for at, row in enumerate(train.index)}
    missing = [row for row in config.train_rows if row not in places]
    if missing:
        raise DataError(
            f"row {missing[0]} is not in the training split, which has {len(train)} rows up to number {max(places)}",
            where="data.train_rows",
            hint="Rows count from 0. One that is a test or validation row, or a copy of another, cannot be trained on.",
        )
    return {**splits, "train": take(train, sorted(places[row] for row in config.train_rows))}


def cap_splits(splits: Mapping[str, Split], config: DataConfig, seed: int, rules: RowRules) -> dict[str, Split]:
    """Draw the rows of splits that are larger than wanted; training rows by a seed of their own, if there is one."""
    seeds = {"train": seed if config.draw_seed is None else config.draw_seed}
    limits = {
        "train": config.max_train_examples,
        "validation": config.max_validation_examples,
        "test": config.max_test_examples,
    }
    capped = {}
    for name, split in _capped_by_class(splits, config, seeds["train"], rules).items():
        limit = limits[name]
        if limit is None or limit >= len(split):
            capped[name] = split
            continue
        drawn_by = seeds.get(name, seed)
        order = random_order(rules.keys_to_draw_by(split), drawn_by)
        capped[name] = take(split, draw_first(order, rules.strata(split), limit, drawn_by))
    return capped


def _capped_by_class(
    splits: Mapping[str, Split], config: DataConfig, seed: int, rules: RowRules
) -> Mapping[str, Split]:
    """The splits, and of each class no more training rows than wanted.

    Raises:
        DataError: The task has no classes to draw from.
    """
    limit, train = config.max_train_examples_per_class, splits["train"]
    if limit is None:
        return splits
    classes = rules.strata(train)
    if classes is None:
        raise DataError(
            "the rows have no single class, so none can be drawn of each",
            where="data.max_train_examples_per_class",
            hint="Set data.max_train_examples instead.",
        )
    order = random_order(rules.keys_to_draw_by(train), seed)
    found: dict[str, list[int]] = {}
    for at in sorted(range(len(train)), key=lambda at: order[at]):
        own = found.setdefault(classes[at], [])
        if len(own) < limit:
            own.append(at)
    return {**splits, "train": take(train, sorted(at for own in found.values() for at in own))}


def _drawn(train: Split, config: DataConfig, seed: int, rules: RowRules, fraction: float) -> list[int]:
    order = random_order(rules.keys_to_draw_by(train), seed)
    return _draw(train, order, fraction, seed, rules.strata, rules.keys(train) if config.deduplicate else None)


def _fold(train: Split, config: DataConfig, seed: int, rules: RowRules, fold: Fold) -> list[int]:
    """Positions of one part: each is drawn from what those before it have left."""
    left, drawn = list(range(len(train))), list[int]()
    for parts in range(fold.of, fold.of - fold.number, -1):
        rest = take(train, left)
        own = set(_drawn(rest, config, seed, rules, 1 / parts) if parts > 1 else range(len(rest)))
        drawn = [left[at] for at in sorted(own)]
        left = [at for position, at in enumerate(left) if position not in own]
    return drawn


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
