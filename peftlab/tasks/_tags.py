"""Schemes by which tags name entities, recognised and written as one: B-, I- and O, which seqeval reads.

Ramshaw and Marcus 1995 (https://aclanthology.org/W95-0107/) for B, I and O; Ratinov and Roth 2009
(https://aclanthology.org/W09-1119/) for BILOU. A tag that a metric cannot read would be scored as if it were an entity
of some name, or none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from peftlab.core.errors import DataError

Scheme = Literal["bio", "bioes", "io", "types", "plain", "spans"]
OUTSIDE = "O"
_OUTSIDE_NAMES = frozenset({"", "o", "out", "outside", "none", "_", "-", "0"})
_PREFIXED = re.compile(r"([BIMELSUW])(?:[-_:/](.+))?", re.IGNORECASE)
_SUFFIXED = re.compile(r"(.+)[-_:/]([BIMELSUW])")
_AS_BIO = {"B": "B", "I": "I", "M": "I", "E": "I", "L": "I", "S": "B", "U": "B", "W": "B"}
_PLAIN_BIO = re.compile(r"O|[BI](-.+)?")
DESCRIPTIONS: dict[Scheme, str] = {
    "bioes": "the tags say where entities end too (BIOES, BILOU or a like scheme), or write B-, I- and O in another "
    "way; they are learned as B-, I- and O, and answers are written as the data is",
    "io": "the tags are read as I- and O alone: neighbouring words of one type are taken for one entity, and learned "
    "as B- and I-; answers have I- again",
    "spans": "the entities are given by their characters; they are learned as B- and I- of words and marks, and "
    "answers are characters again",
    "types": "the tags are types of entities without B- and I-: neighbouring words of one type are taken for one "
    "entity, and learned as B- and I-; answers are types again",
    "plain": "the tags name no entities (there is no B- and I-, and no O for most words): each word's tag is scored by "
    "itself, with accuracy",
}


def are_bio(tags: Iterable[str]) -> bool:
    """Whether all tags are B-, I- or O, in which entities can be found."""
    return all(_PLAIN_BIO.fullmatch(tag) for tag in tags)


def recognise(tags: Counter[str], *, where: str) -> Scheme:
    """By which scheme tags name entities.

    Args:
        tags: How often each occurs in the training split.
        where: The column, for messages.

    Raises:
        DataError: The tags are numbers, or of several schemes.
    """
    if all(is_number(tag) for tag in tags):
        raise DataError(
            f"the tags are numbers ({', '.join(sorted(tags, key=float)[:8])}); their names are not known",
            where=where,
            hint="Name them in the order of their numbers: `task.tag_names: [O, B-PER, I-PER, …]`; or set "
            "`task.tag_scheme: plain` to score every word's tag by itself.",
        )
    if are_bio(tags):
        return "bio"
    named = [tag for tag in tags if not is_outside(tag)]
    pairs = [parsed(tag) for tag in named]
    letters = {pair[0] for pair in pairs if pair is not None}
    if None not in pairs and (letters & {"B", "I"} or letters <= {"S", "U", "W"}):
        return "bioes"
    read = sorted(tag for tag in named if _PLAIN_BIO.fullmatch(tag) and len(tag) > 1)
    if read:
        odd = sorted(tag for tag in named if parsed(tag) is None)
        raise DataError(
            f"some tags have a prefix, as `{read[0]}`, and others none, as `{odd[0]}`: no scheme is known in which "
            "both name entities",
            where=where,
            hint="Mend the tags, or set `task.tag_scheme` to types (each tag is a type of entity) or plain (no "
            "entities).",
        )
    # Most words of a text are no part of an entity, while `O` may also be a part of speech.
    most_common = tags.most_common(1)[0][0]
    return "types" if is_outside(most_common) else "plain"


def check_scheme(tags: Iterable[str], scheme: Scheme, *, where: str) -> None:
    """Refuse tags that a scheme, which the recipe names, does not have.

    Raises:
        DataError: Naming the tag.
    """
    for tag in sorted(tags):
        unread = scheme in ("bio", "io") and not _PLAIN_BIO.fullmatch(tag)
        if unread or (scheme == "bioes" and not is_outside(tag) and parsed(tag) is None):
            raise DataError(
                f"the tag {tag!r} does not belong to the scheme {scheme}",
                where=where,
                hint="See task.tag_scheme, or mend it.",
            )


def to_bio(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """The tags of one text as B-, I- and O."""
    if scheme in ("bio", "plain"):
        return list(tags)
    if scheme == "bioes":
        return [_converted(tag) for tag in tags]
    if scheme == "io":
        return [f"B{tag[1:]}" if tag[0] == "I" and tag not in tags[at - 1 : at] else tag for at, tag in enumerate(tags)]
    found: list[str] = []
    for at, tag in enumerate(tags):
        if is_outside(tag):
            found.append(OUTSIDE)
        else:
            found.append(f"{'I' if at and tags[at - 1] == tag else 'B'}-{tag}")
    return found


def out_of_order(tags: Sequence[str], *, has_ends: bool) -> int | None:
    """The first tag of a text that cannot stand where it does, as an I- of a type that has not begun.

    Args:
        tags: As they are written, each with a letter or outside.
        has_ends: Whether the last word of every entity of several words has a letter of its own.
    """
    begun: str | None = None
    for at, tag in enumerate([*tags, OUTSIDE]):
        letter, kind = (None if is_outside(tag) else parsed(tag)) or (OUTSIDE, "")
        goes_on = letter in "IMEL"
        if (goes_on and kind != begun) or (has_ends and begun is not None and not goes_on):
            return min(at, len(tags) - 1)
        begun = kind if letter in "BIM" else None
    return None


def check_order(tags: Sequence[str], *, where: str) -> None:
    """Refuse a text whose tags contradict one another, of a scheme that names the ends of entities.

    Raises:
        DataError: Naming the row and the word.
    """
    if (at := out_of_order(tags, has_ends=True)) is not None:
        raise DataError(
            f"the tag {tags[at]!r} of word {at + 1} is out of order: an entity has begun and does not end, or goes on "
            "and has not begun",
            where=where,
            hint="Mend the tags of the row.",
        )


def closed(tags: Iterable[str]) -> set[str]:
    """With O, and with both B- and I- of every type: a test text may have a longer entity than those of training."""
    types = {tag[1:] for tag in tags if tag != OUTSIDE}
    return {OUTSIDE, *(f"{letter}{name}" for letter in "BI" for name in types)}


def is_number(tag: str) -> bool:
    """Whether a tag is a whole number, as in tables that keep the names of their classes elsewhere."""
    return re.fullmatch(r"-?\d+", tag) is not None


def _converted(tag: str) -> str:
    pair = None if is_outside(tag) else parsed(tag)
    if pair is None:
        return OUTSIDE if is_outside(tag) else tag
    letter, kind = pair
    return f"{_AS_BIO[letter]}-{kind}" if kind else _AS_BIO[letter]


def parsed(tag: str) -> tuple[str, str] | None:
    """The letter of a tag in capitals, and its type; None: it has no letter."""
    prefixed = _PREFIXED.fullmatch(tag)
    if prefixed and (prefixed[2] or tag.isupper()):
        return prefixed[1].upper(), prefixed[2] or ""
    suffixed = _SUFFIXED.fullmatch(tag)
    return (suffixed[2], suffixed[1]) if suffixed else None


def is_outside(tag: str) -> bool:
    """Whether a tag says that its word is in no entity."""
    return tag.lower() in _OUTSIDE_NAMES
