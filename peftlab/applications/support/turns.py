"""What a message means in a conversation: a question, one that goes on, a complaint, thanks, a wish for a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What an assistant's message is."""

    ENTRY = "entry"
    WRITTEN = "written"
    HANDED = "handed"
    POLITE = "polite"
    AGENT = "agent"


@dataclass(frozen=True)
class Exchange:
    """A question and what came of it.

    Args:
        question: As it was searched for.
        kind: Of the answer.
        entry: The id of the entry that was the answer; None: it was none.
        sources: Ids of the entries that were shown with it.
    """

    question: str
    kind: Kind
    entry: str | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Turn:
    """A message, understood.

    Args:
        questions: What to search for; of several, the one that is surest.
        tried: Ids of entries that have not helped.
        complaints: How often in a row something has not helped, this time included.
        wants_person: Whether a person is asked for.
        is_thanks: Whether there is nothing to search for.
    """

    questions: tuple[str, ...]
    tried: frozenset[str] = field(default_factory=frozenset)
    complaints: int = 0
    wants_person: bool = False
    is_thanks: bool = False


_PERSON = re.compile(
    r"\b(?:talk|speak|chat|connect me|transfer me|put me through)\s+(?:to|with)\b.{0,20}"
    r"\b(?:human|person|agent|someone|somebody|representative|colleague|operator)\b"
    r"|\b(?:want|need|get me)\s+an?\s+(?:real\s+|live\s+)?(?:human|person|agent|representative|operator)\b"
    r"|^(?:agent|human|operator)\W*$",
    re.IGNORECASE,
)
_NO_HELP = re.compile(
    r"^\W*(?:no+\b[\s,.!]*)?(?:(?:that|this|it)\b.{0,20})?\b(?:(?:did|does|do|was|is|has)(?: not|n['’]?t)\b.{0,15}"
    r"\b(?:help\w*|work\w*|answer\w*|right|it|useful|what i (?:asked|meant|wanted))|not (?:helpful"
    r"|what i (?:asked|meant|wanted))"
    r"|wrong answer|still (?:not|does|have))\b[\s,.!:;]*|^\W*no[\s,.!]+(?=i (?:mean|meant|want|asked))"
    r"|^\W*(?:no|wrong|nope)\W*$",
    re.IGNORECASE,
)
_MEANT = re.compile(
    r"^\W*(?:(?:no|sorry|actually)[\s,]+)*(?:i (?:mean|meant)|actually|correction)\b[\s,:]*", re.IGNORECASE
)
_GOES_ON = re.compile(r"^\W*(?:and|or|but|also|what about|how about|what if|then|so)\b", re.IGNORECASE)
_POINTS_BACK = re.compile(r"\b(?:it|that|this|they|them|those|these|there|one)\b", re.IGNORECASE)
_THANKS = re.compile(
    r"^\W*(?:(?:hi|hello|hey|good (?:morning|evening|afternoon)|thanks?|thank you|thx|ok(?:ay)?|great|perfect"
    r"|bye|goodbye|cheers|"
    r"that helped|it (?:works|worked)|yes|a lot|so much|very much|there)\b\W*)+$",
    re.IGNORECASE,
)
SHORT = 6
"""Words of a message that may only go on with what was said before."""
FEWEST = 3
"""Words that are left of a complaint before they are taken for the question."""


def understand(text: str, history: Sequence[Exchange]) -> Turn:
    """What a message means after what was said before."""
    if _PERSON.search(text):
        return Turn((text,), wants_person=True)
    asked = [exchange for exchange in history if exchange.kind in (Kind.ENTRY, Kind.WRITTEN, Kind.HANDED)]
    if _THANKS.match(text):
        return Turn((), is_thanks=True)
    last = asked[-1] if asked else None
    complaint = _NO_HELP.match(text)
    if complaint and last is not None:
        rest = _MEANT.sub("", text[complaint.end() :]).strip()
        question = rest if len(rest.split()) >= FEWEST else last.question
        alike = _run(asked, last.question)
        tried = frozenset(each for exchange in alike for each in (exchange.entry, *exchange.sources[:1]) if each)
        return Turn((question,), tried, len(alike) if question == last.question else 1)
    meant = _MEANT.match(text)
    if meant and last is not None and text[meant.end() :].strip():
        return Turn((text[meant.end() :].strip(),), frozenset({last.entry} if last.entry else ()))
    is_short = len(text.split()) <= SHORT
    if last is not None and (_GOES_ON.match(text) or (is_short and _POINTS_BACK.search(text))):
        return Turn((f"{last.question} {text}", text))
    return Turn((text,))


def _run(asked: Sequence[Exchange], question: str) -> list[Exchange]:
    """The last exchanges on one question."""
    found = []
    for exchange in reversed(asked):
        if exchange.question != question:
            break
        found.append(exchange)
    return found
