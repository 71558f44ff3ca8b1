"""Lists of words or tags, as tables hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from peftlab.core.errors import DataError
from peftlab.tasks._labels import written_list


def as_list(value: Any) -> list[str]:
    """The words of a list, or of a string with blanks between them."""
    return value.split() if isinstance(value, str) else [str(item) for item in value]


def tags_of(value: Any, column: str, where: str) -> Iterable[Any]:
    """The tags of a list, or of a string with blanks between them.

    Raises:
        DataError: It is neither.
    """
    if isinstance(value, str):
        return value.split()
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise DataError(
            f"the column `{column}` holds {value!r:.40}, and no list of tags",
            where=where,
            hint="It takes a tag for each word: a list, or a text with blanks between them.",
        )
    return value


def listed(value: Any, *, may_be_bare: bool = False) -> Any:
    """A list that was written out as text, as CSV files hold it; anything else stays.

    Args:
        value: Of the table.
        may_be_bare: Whether what stands in brackets is a list in any case, as numpy writes numbers.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not (text.startswith(("[", "(")) and text.endswith(("]", ")"))):
        return value
    found = written_list(text)
    if found is None and may_be_bare and text.startswith("["):
        return text[1:-1].replace(",", " ").split()
    return value if found is None else found
