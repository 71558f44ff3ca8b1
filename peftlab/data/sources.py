"""From the ``data`` section to one table per split, as far as the source has splits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from peftlab.core.errors import ConfigError, DataError, SourceError, UserError, did_you_mean
from peftlab.core.reporter import ProgressCallback
from peftlab.data.data_config import (
    HUB_KEYS,
    READING_KEYS,
    SPLIT_NAMES,
    DataConfig,
    SplitName,
    SplitSources,
)
from peftlab.data.data_folders import data_folders
from peftlab.data.given import GivenRows
from peftlab.data.hub import load_hub_tables
from peftlab.data.images import with_images
from peftlab.data.locations import parse_location, resolve_location
from peftlab.data.nested import with_roots
from peftlab.data.table import Table
from peftlab.data.tables import read_tables, usual_splits

COLUMN_KEYS = ("decimal",)
"""Keys beside those of files that hold for the values of any table."""


def load_tables(
    config: DataConfig,
    *,
    keep: Collection[str] | None = None,
    images: Sequence[str] = (),
    folder: Path | None = None,
    offline: bool = False,
    report: ProgressCallback | None = None,
) -> dict[SplitName, Table]:
    """Read the splits that the source has; ``train`` is always there.

    Args:
        config: The ``data`` section.
        keep: The columns to keep; None: all.
        images: Those of them that hold images: paths start in the folder of the table.
        folder: Relative paths start here (the recipe's folder).
        offline: Forbid the network.
        report: Takes lines that tell a person what is going on.

    Raises:
        SourceError: The source cannot be reached; ``where`` is its key, such as ``data.source.test``.
        DataError: A file cannot be read as its format says, or no split is the training one.
        ConfigError: A key does not go with this kind of source.
    """
    keep = None if keep is None else with_roots(keep)
    if not isinstance(config.source, SplitSources):
        return _choose(_load(config.source, "data.source", config, keep, images, folder, offline, report), config)
    tables: dict[SplitName, Table] = {}
    for name in SPLIT_NAMES:
        address = getattr(config.source, name)
        if address is not None:
            found = _load(address, f"data.source.{name}", config, keep, images, folder, offline, report)
            tables[name] = _only(found, name, address)
    return tables


def load_table(
    address: str | GivenRows,
    name: str,
    config: DataConfig,
    *,
    keep: Collection[str],
    folder: Path | None,
    offline: bool,
    report: ProgressCallback | None,
) -> Table:
    """The one table behind an address that stands under a name in ``data.source``.

    Args:
        address: Of the table.
        name: Under which it stands.
        config: Says how files are read.
        keep: The columns to keep.
        folder: Relative paths start here (the recipe's folder).
        offline: Forbid the network.
        report: Takes lines that tell a person what is going on.

    Raises:
        SourceError: The source cannot be reached.
        DataError: A file cannot be read, or holds several splits and none of this name.
    """
    found = _load(address, f"data.source.{name}", config, with_roots(keep), (), folder, offline, report)
    return _only(found, name, address)


def _load(
    address: str | GivenRows,
    key: str,
    config: DataConfig,
    keep: Collection[str] | None,
    images: Sequence[str],
    folder: Path | None,
    offline: bool,
    report: ProgressCallback | None,
) -> dict[str, Table]:
    if isinstance(address, GivenRows):
        given = _tables_of_given(address, key, config, keep)
        return {name: with_images(table, images, Path(), is_confined=False) for name, table in given.items()}
    try:
        location = parse_location(address, folder=folder, further=data_folders())
        place = resolve_location(location, offline=offline, report=report)
        if isinstance(place, str):
            tables = load_hub_tables(place, config, keep=keep, offline=offline, report=report)
            return {name: with_images(table, images, None) for name, table in tables.items()}
    except SourceError as error:
        raise _placed(error, key) from None
    for name in HUB_KEYS:
        if getattr(config, name) is not None:
            raise ConfigError(f"this is for data sets of the Hub, and {address} is none", where=f"data.{name}")
    tables = read_tables(place, config, keep=keep, report=report)
    root = place if place.is_dir() else place.parent
    return {name: with_images(table, images, root) for name, table in tables.items()}


def _tables_of_given(given: GivenRows, key: str, config: DataConfig, keep: Collection[str] | None) -> dict[str, Table]:
    """The tables of rows that a program gave, with the columns to keep, or one where none of them is there."""
    defaults = {name: field.default for name, field in DataConfig.model_fields.items()}
    for name in (*READING_KEYS, *HUB_KEYS):
        if name not in COLUMN_KEYS and getattr(config, name) != defaults[name]:
            raise ConfigError(
                f"this says how a file or a data set of the Hub is read, and the rows are given as a {given.kind}",
                where=f"data.{name}",
                hint="Leave it out.",
            )
    place = given.kind if key == "data.source" else f"{given.kind} ({key})"
    found = {}
    for split, columns in given.tables.items():
        kept = {name: values for name, values in columns.items() if keep is None or name in keep}
        name = f"{place}: {split}" if split else place
        found[split] = Table(name, kept or dict(list(columns.items())[:1]), tuple(columns))
    return found


def _placed(error: UserError, key: str) -> SourceError:
    """The same error at the key of the recipe; what was its place goes into the message."""
    message = f"{error.where}: {error.message}" if error.where else error.message
    return SourceError(message, where=key, hint=error.hint)


def _choose(tables: dict[str, Table], config: DataConfig) -> dict[SplitName, Table]:
    """Give a source's splits our names."""
    if config.splits is not None:
        for ours, theirs in config.splits.items():
            if theirs not in tables:
                known = [name for name in tables if name]
                hint = did_you_mean(theirs, known) or "The source is one table without splits."
                raise ConfigError(f"the source has no split `{theirs}`", where=f"data.splits.{ours}", hint=hint)
        return {ours: tables[theirs] for ours, theirs in config.splits.items()}
    names = usual_splits(tables)
    if "train" in names:
        return {ours: tables[theirs] for ours, theirs in names.items()}
    if len(tables) == 1 and not names:
        return {"train": next(iter(tables.values()))}
    raise DataError(
        f"none of the source's splits is called train: {', '.join(list(tables)[:12])}",
        where="data.source",
        hint="Say which is which, such as `data.splits: {train: …, test: …}`.",
    )


def _only(tables: Mapping[str, Table], split: str, address: str | GivenRows) -> Table:
    """The table of a source that is to give one split."""
    if len(tables) == 1:
        return next(iter(tables.values()))
    names = usual_splits(tables)
    theirs = next((found for ours, found in names.items() if ours == split), split)
    if theirs in tables:
        return tables[theirs]
    shown = address if isinstance(address, str) else f"the {address.kind}"
    raise DataError(
        f"{shown} holds several splits, and none is called {split}: {', '.join(list(tables)[:12])}",
        where=f"data.source.{split}",
        hint="Give one file, or one table, for each split.",
    )
