"""From B-, I- and O back to the way in which a data set writes its tags, so that answers come in that form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from peftlab.tasks._tags import OUTSIDE, Scheme, is_outside, parsed

Entity = tuple[str, int, int]
"""Type, first word, and the word behind the last one."""

_AROUND = re.compile(r"(?:[BIMELSUW]([-_:/]).+)|(?:.+([-_:/])[BIMELSUW])", re.IGNORECASE)


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """The entities that B-, I- and O make up, by seqeval's definition: an I- without its like before begins one.

    seqeval itself is no dependency: it comes as source alone, and has not been built by older pips since 2026.
    """
    found: list[Entity] = []
    before: str | None = None
    for at, tag in enumerate(tags):
        kind = None if tag == OUTSIDE else tag[2:]
        if kind is not None and (tag[0] == "B" or kind != before):
            found.append((kind, at, at + 1))
        elif kind is not None:
            found[-1] = (kind, found[-1][1], at + 1)
        before = kind
    return found


def style_of(tags: Counter[str], scheme: Scheme) -> dict[str, str]:
    """How tags are written, as plain JSON.

    ``begin``, ``inside``, ``end`` and ``single`` are letters, ``pattern`` puts one beside a type, ``outside`` is what
    stands for O.

    Args:
        tags: How often each occurs in the training split.
        scheme: That they are of.
    """
    outside = [tag for tag, _ in tags.most_common() if is_outside(tag)]
    style = {"outside": outside[0] if outside else OUTSIDE}
    if scheme == "types":
        return {**style, "begin": "", "inside": "", "end": "", "single": "", "pattern": "{type}"}
    found = [(tag, pair) for tag, _ in tags.most_common() if not is_outside(tag) and (pair := parsed(tag)) is not None]
    letters = {letter for _, (letter, _) in found}
    end = next((letter for letter in "LE" if letter in letters), "")
    single = next((letter for letter in "UWS" if letter in letters), "")
    inside = "M" if "M" in letters and "I" not in letters else "I"
    begin = "I" if scheme == "io" else "B"
    written = found[0][0] if found else "B-"
    if found and all(letter.lower() in (tag[0], tag[-1]) for tag, (letter, _) in found):
        begin, inside, end, single = begin.lower(), inside.lower(), end.lower(), single.lower()
    return {**style, "begin": begin, "inside": inside, "end": end, "single": single, "pattern": _pattern(written)}


def in_style(tags: Sequence[str], style: Mapping[str, str]) -> list[str]:
    """B-, I- and O as the data writes them."""
    found = [style["outside"]] * len(tags)
    for kind, first, behind in entities_of(tags):
        letters = [style["begin"]] + [style["inside"]] * (behind - first - 1)
        if style["end"] and behind - first > 1:
            letters[-1] = style["end"]
        if style["single"] and behind - first == 1:
            letters = [style["single"]]
        pattern = style["pattern"] if kind or style["pattern"] == "{type}" else "{letter}"
        found[first:behind] = [pattern.format(letter=letter, type=kind) for letter in letters]
    return found


def _pattern(tag: str) -> str:
    """Where the letter of a tag stands."""
    around = _AROUND.fullmatch(tag)
    if around is None:
        return "{letter}-{type}"
    return f"{{letter}}{around[1]}{{type}}" if around[1] else f"{{type}}{around[2]}{{letter}}"
