"""Texts that were garbled before they got here: ``schÃ¶n``, or ``sch�n``. No encoding mends them any more."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from peftlab.core.splits import Split

_READ_WRONGLY_AS = ("cp1252", "latin-1", "mac-roman")


def count_garbled(splits: Mapping[str, Split], text_columns: Sequence[str]) -> int:
    """How many texts were UTF-8 and have been read as something else, or have lost characters, in all splits."""
    columns = (split.columns[column] for split in splits.values() for column in text_columns)
    return sum(_is_garbled(value) for column in columns for value in column)


def _is_garbled(value: Any) -> bool:
    text = value if isinstance(value, str) else " ".join(value)
    if text.isascii():
        return False
    if "\ufffd" in text:
        return True
    for encoding in _READ_WRONGLY_AS:
        # Hardly any text of another origin is UTF-8 in its bytes.
        with contextlib.suppress(UnicodeError):
            text.encode(encoding).decode("utf-8")
            return True
    return False
