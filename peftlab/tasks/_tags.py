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

Scheme = Literal["bio", "bioes", "types", "plain"]
OUTSIDE = "O"
_OUTSIDE_NAMES = frozenset({"", "o", "out", "outside", "none", "_", "-", "0"})
_PREFIXED = re.compile(r"([BIMELSUW])(?:[-_:/](.+))?", re.IGNORECASE)
_SUFFIXED = re.compile(r"(.+)[-_:/]([BIMELSUW])")
_AS_BIO = {"B": "B", "I": "I", "M": "I", "E": "I", "L": "I", "S": "B", "U": "B", "W": "B"}
_PLAIN_BIO = re.compile(r"O|[BI](-.+)?")
DESCRIPTIONS: dict[Scheme, str] = {
    "bioes": "the tags say where entities end too (BIOES, BILOU or a like scheme), or write B-, I- and O in another "
    "way; they are learned as B-, I- and O",
    "types": "the tags are types of entities without B- and I-: neighbouring words of one type are taken for one "
    "entity, and learned as B- and I-",
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
    named = [tag for tag in tags if not _is_outside(tag)]
    parsed = [_parse(tag) for tag in named]
    letters = {pair[0] for pair in parsed if pair is not None}
    if None not in parsed and (letters & {"B", "I"} or letters <= {"S", "U", "W"}):
        return "bioes"
    read = sorted(tag for tag in named if _PLAIN_BIO.fullmatch(tag) and len(tag) > 1)
    if read:
        odd = sorted(tag for tag in named if _parse(tag) is None)
        raise DataError(
            f"some tags have a prefix, as `{read[0]}`, and others none, as `{odd[0]}`: no scheme is known in which "
            "both name entities",
            where=where,
            hint="Mend the tags, or set `task.tag_scheme` to types (each tag is a type of entity) or plain (no "
            "entities).",
        )
    # Most words of a text are no part of an entity, while `O` may also be a part of speech.
    most_common = tags.most_common(1)[0][0]
    return "types" if _is_outside(most_common) else "plain"


def check_scheme(tags: Iterable[str], scheme: Scheme, *, where: str) -> None:
    """Refuse tags that a scheme, which the recipe names, does not have.

    Raises:
        DataError: Naming the tag.
    """
    for tag in sorted(tags):
        unread = scheme == "bio" and not _PLAIN_BIO.fullmatch(tag)
        if unread or (scheme == "bioes" and not _is_outside(tag) and _parse(tag) is None):
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
    found: list[str] = []
    for at, tag in enumerate(tags):
        if _is_outside(tag):
            found.append(OUTSIDE)
        else:
            found.append(f"{'I' if at and tags[at - 1] == tag else 'B'}-{tag}")
    return found


def closed(tags: Iterable[str]) -> set[str]:
    """With O, and with both B- and I- of every type: a test text may have a longer entity than those of training."""
    types = {tag[1:] for tag in tags if tag != OUTSIDE}
    return {OUTSIDE, *(f"{letter}{name}" for letter in "BI" for name in types)}


def is_number(tag: str) -> bool:
    """Whether a tag is a whole number, as in tables that keep the names of their classes elsewhere."""
    return re.fullmatch(r"-?\d+", tag) is not None


def _converted(tag: str) -> str:
    parsed = None if _is_outside(tag) else _parse(tag)
    if parsed is None:
        return OUTSIDE if _is_outside(tag) else tag
    letter, kind = parsed
    return f"{_AS_BIO[letter]}-{kind}" if kind else _AS_BIO[letter]


def _parse(tag: str) -> tuple[str, str] | None:
    """The letter of a tag, and its type; None: it has no letter."""
    prefixed = _PREFIXED.fullmatch(tag)
    if prefixed and (prefixed[2] or tag.isupper()):
        return prefixed[1].upper(), prefixed[2] or ""
    suffixed = _SUFFIXED.fullmatch(tag)
    return (suffixed[2], suffixed[1]) if suffixed else None


def _is_outside(tag: str) -> bool:
    return tag.lower() in _OUTSIDE_NAMES
