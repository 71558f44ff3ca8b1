"""A message that may hold several questions, taken apart."""

from __future__ import annotations

import re

from peftlab.applications.support.sentences import sentences

MOST_PARTS, FEWEST_WORDS = 4, 3
_STARTS = "how|what|when|where|why|who|whom|whose|which|can|could|may|do|does|did|is|are|was|will|would|should|have|has"
_AND = re.compile(r"^\W*(?:(?:and|also|but|or|so|then|plus)\b[\s,]*)+", re.IGNORECASE)
_ASKS = re.compile(rf"^\W*(?:{_STARTS})\b", re.IGNORECASE)
_JOINED = re.compile(rf"(?:,?\s+and\s+(?:also\s+)?|,?\s+also\s+|[,;]\s+)(?=(?:{_STARTS})\b)", re.IGNORECASE)
_POINTS_BACK = re.compile(r"\b(?:it|its|that|this|they|them|their|those|these|there|one|so|same)\b", re.IGNORECASE)


def parted(text: str) -> list[str]:
    """The questions of a message, each with the sentences before it that ask nothing; empty: it is one question.

    A question that points back to another one, such as "and is it free?", cannot be told without it: then nothing is
    taken apart. So is nothing where there are more than a few.
    """
    found: list[str] = []
    before: list[str] = []
    for sentence in sentences(text):
        for part in _clauses(sentence):
            if not _is_question(part):
                before.append(part)
                continue
            if found and _POINTS_BACK.search(part):
                return []
            found.append(" ".join([*before, part]))
            before = []
    if not 1 < len(found) <= MOST_PARTS:
        return []
    return [*found[:-1], " ".join([found[-1], *before])]


def _clauses(sentence: str) -> list[str]:
    """The sentence; its parts where each of them asks something."""
    parts = [_AND.sub("", part) for part in _JOINED.split(sentence)]
    return parts if all(map(_is_question, parts)) else [_AND.sub("", sentence)]


def _is_question(text: str) -> bool:
    return len(text.split()) >= FEWEST_WORDS and (bool(_ASKS.match(text)) or text.endswith(("?", "？")))
