"""The entities that the tags of a text make up, as users get them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from peftlab.core.words import word_and_mark_places
from peftlab.tasks._tag_style import entities_of


def find_entities(text: Any, tags: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    """The entities that tags make up, by seqeval's definition.

    Args:
        text: The words as a list, or as a string with blanks between them.
        tags: One a word.
        scores: The probability of each tag.

    Returns:
        Of each entity: ``type``, ``text``, the ``score`` of its least certain word, ``first_word`` and ``end_word``
        (exclusive); for a string also ``start`` and ``end`` in characters (exclusive).
    """
    spans = [match.span() for match in re.finditer(r"\S+", text)] if isinstance(text, str) else None
    entities = []
    for kind, first, behind in entities_of(tags):
        entity: dict[str, Any] = {"type": kind or "_", "score": min(scores[first:behind])}
        entity |= {"first_word": first, "end_word": behind}
        if spans is None:
            entity["text"] = " ".join(str(word) for word in text[first:behind])
        else:
            start, end = spans[first][0], spans[behind - 1][1]
            entity |= {"text": text[start:end], "start": start, "end": end}
        entities.append(entity)
    return entities


def spans_of(text: str, tags: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    """The same as spans of characters.

    Args:
        text: Whole.
        tags: One for each word and mark.
        scores: The probability of each tag.

    Returns:
        Of each span: ``start`` and ``end`` (exclusive), ``label``, ``text``, the ``score`` of its least certain word.
    """
    places = word_and_mark_places(text)
    return [
        {
            "start": places[first][0],
            "end": places[behind - 1][1],
            "label": kind,
            "text": text[places[first][0] : places[behind - 1][1]],
            "score": min(scores[first:behind]),
        }
        for kind, first, behind in entities_of(tags)
    ]
