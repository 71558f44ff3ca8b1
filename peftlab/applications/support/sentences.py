"""Texts as sentences."""

from __future__ import annotations

import re

# A blank after the mark, so that `v2.1`, `example.com` and `3.50` stay whole; Chinese marks need none.
_ENDS = re.compile(r"(?<=[.!?…])[\"')\]]*\s+(?=\S)|(?<=[。！？])|\n+")
_SHORT = re.compile(r"\b(?:e\.g|i\.e|Mr|Mrs|Ms|Dr|No|approx|vs|etc|Inc|Ltd)\.$")


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the blanks around them."""
    found: list[str] = []
    for piece in (each.strip() for each in _ENDS.split(text)):
        if not piece:
            continue
        if found and _SHORT.search(found[-1]):
            found[-1] = f"{found[-1]} {piece}"
        else:
            found.append(piece)
    return found
