"""Keys that say how a file is written, and have no effect on a file of another format."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from peftlab.core.errors import ConfigError
from peftlab.data.class_folders import class_folders, column_of
from peftlab.data.data_config import READING_KEYS, DataConfig, SplitSources, TableFormat
from peftlab.data.formats import format_of
from peftlab.data.images import COLUMN as IMAGE_COLUMN
from peftlab.data.saved_datasets import is_saved_dataset
from peftlab.data.table import Table
from peftlab.data.table_files import the_only_file

_DELIMITED = frozenset[TableFormat]({"csv", "tsv"})
READERS: Mapping[str, frozenset[TableFormat]] = {
    "delimiter": _DELIMITED,
    "quoting": _DELIMITED,
    "escape": _DELIMITED,
    "header": _DELIMITED | {"xlsx"},
    "column_names": _DELIMITED | {"xlsx", "json", "jsonl", "conll"},
    "encoding": _DELIMITED | {"json", "jsonl", "conll", "text", "yaml"},
    "sheet": frozenset({"xlsx"}),
}
"""Which formats each key says something of."""


def refuse_unread(config: DataConfig, tables: Iterable[Table], *, has_numbers: bool) -> None:
    """Refuse keys that no file of the source is read by: whoever sets them believes that they have an effect.

    Args:
        config: The ``data`` section.
        tables: What was read of its source.
        has_numbers: Whether the task reads a column of numbers.

    Raises:
        ConfigError: With the first such key.
    """
    if config.decimal is not None and not has_numbers:
        raise ConfigError(
            "this is for columns of numbers, and the task reads none: it has no effect",
            where="data.decimal",
            hint="Leave it out.",
        )
    if isinstance(config.source, SplitSources) and config.source.unlabeled is not None:
        return  # that file may be the one that is meant, and is read later
    formats = {each for table in tables for each in table.formats}
    for key in READING_KEYS:
        if getattr(config, key) != DataConfig.model_fields[key].default:
            refuse_useless(key, formats, what="the source", where=f"data.{key}")


def refuse_useless(key: str, formats: Collection[str], *, what: str, where: str) -> None:
    """Refuse a key that says nothing of files of these formats.

    Args:
        key: One of those that say how a file is written.
        formats: Of the files that are read; empty: there are none, but a data set that is saved or of the Hub.
        what: Has these formats.
        where: The key, as its user has written it.

    Raises:
        ConfigError: It has no effect.
    """
    shown = ", ".join(sorted(formats)) or "a saved data set or one of the Hub"
    if key == "format" and not formats:
        said = "this is the format of a file"
    elif key in READERS and READERS[key].isdisjoint(formats):
        said = f"this says how files of the formats {', '.join(sorted(READERS[key]))} are written"
    else:
        return
    raise ConfigError(f"{said}, and {what} is {shown}: it has no effect", where=where, hint="Leave it out.")


def formats_of(path: Path, config: DataConfig) -> frozenset[str] | None:
    """How a table's file is written; empty for a saved data set and for folders of images.

    Returns:
        None where that cannot be told of the folder.

    Raises:
        DataError: Nothing tells a file's format.
    """
    if not path.is_dir():
        return frozenset({format_of(the_only_file(path), config)})
    if is_saved_dataset(path):
        return frozenset()
    kinds = {column_of(classes) for classes in class_folders(path).values()}
    return frozenset({"text"} if kinds != {IMAGE_COLUMN} else ()) if kinds else None
