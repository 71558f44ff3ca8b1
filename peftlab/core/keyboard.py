"""Which keys lie beside each other, for typing mistakes that people make."""

from __future__ import annotations

KEYBOARDS = (("qwertyuiop", "asdfghjkl", "zxcvbnm"), ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"))
"""Rows of keys, from the top; each row begins a little to the right of the one above it."""


def _neighbours() -> dict[str, str]:
    """The keys around each key."""
    found: dict[str, str] = {}
    for rows in KEYBOARDS:
        keys = {(row, place): key for row, line in enumerate(rows) for place, key in enumerate(line)}
        for (row, place), key in keys.items():
            around = [(row, place - 1), (row, place + 1), (row - 1, place), (row - 1, place + 1)]
            around += [(row + 1, place - 1), (row + 1, place)]
            found[key] = "".join(keys[at] for at in around if at in keys)
    return found


NEIGHBOURS = _neighbours()
"""The keys around each key, of keyboards for Latin and for Cyrillic letters."""
