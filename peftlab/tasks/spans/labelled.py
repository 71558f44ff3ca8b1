"""Labelled spans of a text, given by their characters; and as tags of its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from peftlab.core.errors import DataError
from peftlab.core.words import word_and_mark_places
from peftlab.tasks._labels import tidy, written_list

OUTSIDE = "O"
EXAMPLE = '[{"start": 3, "end": 7, "label": "PER"}]'


@dataclass(frozen=True)
class LabelledSpan:
    """A part of a text.

    Args:
        start: Its first character.
        end: The one behind its last.
        label: What it is.
    """

    start: int
    end: int
    label: str


def read_spans(value: Any, text: str, where: str) -> list[LabelledSpan]:
    """The spans of a row in their order; none where the value is empty.

    Args:
        value: A list of mappings with ``start``, ``end`` and ``label``, or such a list written out.
        text: That they are of.
        where: The row, for messages.

    Raises:
        DataError: A span cannot be read, lies outside the text, is empty or blank, or overlaps another one.
    """
    if value is None or value == "":
        return []
    value = written_list(value) if isinstance(value, str) else value
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise DataError("the spans are no list", where=where, hint=f"Write them as {EXAMPLE}.")
    spans = sorted((_span(each, text, where) for each in value), key=lambda span: (span.start, span.end))
    for before, span in pairwise(spans):
        if span.start < before.end:
            raise DataError(
                f"the spans {_shown(before, text)} and {_shown(span, text)} overlap; a word has one tag",
                where=where,
                hint="Keep one of them.",
            )
    return spans


def _span(value: Any, text: str, where: str) -> LabelledSpan:
    if not isinstance(value, Mapping) or not {"start", "end", "label"} <= set(value):
        raise DataError(f"the span {value!r} lacks start, end or label", where=where, hint=f"Write it as in {EXAMPLE}.")
    given = value["label"]
    start, end, label = value["start"], value["end"], "" if given is None else tidy(str(given))
    if not all(isinstance(at, int) and not isinstance(at, bool) for at in (start, end)):
        raise DataError(f"start and end of the span {dict(value)!r} are no whole numbers", where=where)
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"the span {start} to {end} ({label}) lies outside the text, or is empty: the text has {len(text)} "
            "characters",
            where=where,
            hint="`end` is the character behind the last one, and characters are counted from 0.",
        )
    if not text[start:end].strip():
        raise DataError(f"the span {start} to {end} ({label}) holds blanks alone", where=where)
    if not label:
        raise DataError(f"the span {start} to {end} has no label", where=where)
    return LabelledSpan(start, end, label)


def tags_of_spans(spans: Sequence[LabelledSpan], text: str, where: str) -> tuple[list[str], int]:
    """A tag with B- or I-, or O, for each word and mark of a text; and how many spans had to be widened.

    A span that begins or ends within a word has all of it.

    Args:
        spans: As :func:`read_spans` gives them.
        text: That they are of.
        where: The row, for messages.

    Raises:
        DataError: Two spans are of one word.
    """
    places = word_and_mark_places(text)
    tags, widened = [OUTSIDE] * len(places), 0
    for span in spans:
        own = [at for at, (start, end) in enumerate(places) if start < span.end and end > span.start]
        taken = next((at for at in own if tags[at] != OUTSIDE), None)
        if taken is not None:
            raise DataError(
                f"the span {_shown(span, text)} and the one before it are both of the word "
                f"{text[slice(*places[taken])]!r}; a word has one tag",
                where=where,
                hint="Put blanks or marks between them, or keep one of them.",
            )
        for at in own:
            tags[at] = f"{'B' if at == own[0] else 'I'}-{span.label}"
        widened += bool(own) and (places[own[0]][0] < _begin(span, text) or places[own[-1]][1] > _end(span, text))
    return tags, widened


def _begin(span: LabelledSpan, text: str) -> int:
    own = text[span.start : span.end]
    return span.start + len(own) - len(own.lstrip())


def _end(span: LabelledSpan, text: str) -> int:
    return span.start + len(text[span.start : span.end].rstrip())


def _shown(span: LabelledSpan, text: str) -> str:
    return f"{span.start} to {span.end} ({span.label}: {text[span.start : span.end][:40]!r})"
