"""SVG elements as escaped text, and how wide a text is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup, escape

FIGURE_STYLE = (Path(__file__).parent / "figures.css").read_text(encoding="utf-8")
"""The style sheet of all figures."""
FONT_SIZE = 11.0
COLORS = 12
"""The style sheet has so many colours for methods."""

_NARROW = set("iljft.,:;|!'()[] -I")
_WIDE = set("mwMW@%")


def tag(name: str, content: object = "", **attributes: object) -> Markup:
    """An element. ``class_`` is ``class``; ``data_m`` is ``data-m``; None leaves an attribute out."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    # Every piece has gone through escape() above or below.
    return Markup(f"<{name}{''.join(parts)}>{escape(content)}</{name}>")  # noqa: S704


def joined(parts: Iterable[object]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(escape(part) for part in parts)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(escape(value))


def text_width(text: str, size: float = FONT_SIZE) -> float:
    """An upper estimate of a text's width in pixels, for the usual sans-serif fonts (DejaVu Sans is the widest)."""
    return size * sum(_character_width(character) for character in text)


def _character_width(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in _NARROW:
        return 0.45
    if character in _WIDE:
        return 1.02
    return 0.78 if character.isupper() else 0.66


def shortened(text: str, width: float, size: float = FONT_SIZE) -> str:
    """The text, without its middle where it is wider than it may be: names often differ at their end."""
    if text_width(text, size) <= width:
        return text
    head, cut, tail = text.partition("…")
    if not cut:
        head, tail = text[: (len(text) + 1) // 2], text[(len(text) + 1) // 2 :]
    while (head or tail) and text_width(f"{head}…{tail}", size) > width:
        head, tail = (head[:-1], tail) if len(head) >= len(tail) else (head, tail[1:])
    return f"{head}…{tail}"


def color(number: int) -> str:
    """The class of a method's colour."""
    return f"c{number % COLORS}"
