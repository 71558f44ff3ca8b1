"""How a new file is read: as the recipe reads its own data, but in the encoding that is said now."""

from __future__ import annotations

from typing import Any

from peftlab.config import Document, build_config
from peftlab.data.config import DataConfig
from peftlab.recipe import Recipe


def reading_config(recipe: Recipe, file_format: str | None, encoding: str) -> DataConfig:
    """The recipe's ``data`` section for another file.

    Delimiter, quoting and column names are the recipe's. The encoding is not: a file of today is UTF-8 unless it is
    said otherwise, and an encoding that can read anything would garble it without a word.

    Args:
        recipe: Of the run.
        file_format: As ``data.format``; None: the ending tells.
        encoding: As ``data.encoding``.

    Raises:
        ConfigError: There is no such format or encoding.
    """
    own = recipe.data
    values: dict[str, Any] = {
        "source": "data",
        "format": file_format or "auto",
        "encoding": encoding,
        **({} if own is None else {key: getattr(own, key) for key in ("delimiter", "quoting", "column_names")}),
    }
    return build_config(DataConfig, values, document=Document(source="--format, --encoding", values=values))
