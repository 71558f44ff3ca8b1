"""Keys that say how a file is written, and have no effect on a file of another format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peftlab.core.errors import ConfigError
from peftlab.data.data_config import DataConfig, SplitSources, TableFormat
from peftlab.data.table import Table

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
    shown = ", ".join(sorted(formats)) or "a saved data set or one of the Hub"
    for key, readers in READERS.items():
        if getattr(config, key) != DataConfig.model_fields[key].default and formats.isdisjoint(readers):
            raise ConfigError(
                f"this says how files of the formats {', '.join(sorted(readers))} are written, and the source is "
                f"{shown}: it has no effect",
                where=f"data.{key}",
                hint="Leave it out.",
            )
