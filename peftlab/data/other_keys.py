"""Tables that another file than a recipe names, under keys of its own: errors name these, not ``data``'s."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from peftlab.core.config import Document, build_config
from peftlab.core.errors import ConfigError, UserError
from peftlab.data.data_config import DataConfig


def table_config(values: Mapping[str, Any], *, section: str = "") -> DataConfig:
    """How a table is read.

    Args:
        values: As in a recipe's ``data``.
        section: Under which the other file has these keys; empty: it has only the address.

    Raises:
        ConfigError: A value is wrong.
    """
    try:
        return build_config(DataConfig, values, document=Document(source=section, values=dict(values)))
    except ConfigError as error:
        error.where = (error.where or "").replace(": ", ".").removeprefix(".")
        raise


@contextmanager
def under_keys(source: str, **keys: str) -> Iterator[None]:
    """Let errors about a table name the keys that a user has written.

    Args:
        source: The key of the address.
        **keys: The others, by what they are called in ``data``: ``encoding="posts.encoding"``.
    """
    try:
        yield
    except UserError as error:
        if error.where in (None, "data.source"):
            error.where = source
        named = set(re.findall(r"`data\.(\w+)", error.hint or ""))
        if named <= set(keys):
            error.hint = error.hint and re.sub(r"`data\.(\w+)", lambda key: f"`{keys[key[1]]}", error.hint)
        else:
            error.hint = "Save the table as UTF-8, with commas between its columns and their names in the first row."
        raise
