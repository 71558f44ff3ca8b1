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
        is_greeting: Whether that is a greeting.
        to_a_person: Whether a complaint is of what a person answered.
    """

    questions: tuple[str, ...]
    tried: frozenset[str] = field(default_factory=frozenset)
    complaints: int = 0
    wants_person: bool = False
    is_thanks: bool = False
    is_greeting: bool = False
    to_a_person: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it asks something that does not depend on what was said before."""
        return self == Turn(self.questions) and len(self.questions) == 1


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
    r"|^\W*i(?:['’]?ve| have)?(?:(?: already)? tried| already (?:did|done)) (?:that|this|it)\b(?: already)?[\s,.!:;]*"
    r"|^\W*(?:(?:that|this|it)(?: is| was|['’]?s)\s+)?(?:no help|no use|useless|wrong|of no (?:help|use))\W*$"
    r"|^\W*(?:no|nope)\W*$|^\W*👎\W*$",
    re.IGNORECASE,
)
_MEANT = re.compile(
    r"^\W*(?:(?:no|sorry|actually)[\s,]+)*(?:i (?:mean|meant)|actually|correction)\b[\s,:]*", re.IGNORECASE
)
_GOES_ON = re.compile(r"^\W*(?:and|or|but|also|what about|how about|what if|then|so)\b", re.IGNORECASE)
_POINTS_BACK = re.compile(r"\b(?:it|that|this|they|them|those|these|there|one)\b", re.IGNORECASE)
_SIGNS = re.compile(r"^[^\w?？👎]*[👍👌🙏👏😊🙂😀😃😄❤✅🎉💯][^\w?？👎]*$")
"""A thumb that is up, a smile: nothing to search for."""
_GREETS = re.compile(r"^\W*(?:hi|hello|hey|good (?:morning|evening|afternoon))\b", re.IGNORECASE)
_BUT = re.compile(r"^\W*(?:(?:thanks?|thank you|ok(?:ay)?|well|sorry|hm+)\b[\s,.!]*)+(?:but\b[\s,]*)?", re.IGNORECASE)
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
KEPT = 500
"""Characters of the question before that are searched for again with what goes on from it."""


def understand(text: str, history: Sequence[Exchange]) -> Turn:
    """What a message means after what was said before."""
    asked = [exchange for exchange in history if exchange.kind in (Kind.ENTRY, Kind.WRITTEN, Kind.HANDED)]
    last = asked[-1] if asked else None
    wish = _PERSON.search(text)
    if wish:
        # Whoever wants a person, and says no more, wants one for what was asked before.
        is_bare = len(text[: wish.start()].split()) <= SHORT and len(text[wish.end() :].split()) < FEWEST
        return Turn((last.question if last is not None and is_bare else text,), wants_person=True)
    complaint = _NO_HELP.match(text) or _NO_HELP.match(_BUT.sub("", text))
    if complaint and last is not None:
        return _complaint(complaint, asked, last, to_a_person=_is_of_a_person(history))
    if _THANKS.match(text) or (_SIGNS.match(text) and last is not None):
        return Turn((), is_thanks=True, is_greeting=_GREETS.match(text) is not None)
    meant = _MEANT.match(text)
    if meant and last is not None and text[meant.end() :].strip():
        return Turn((text[meant.end() :].strip(),), frozenset({last.entry} if last.entry else ()))
    is_short = len(text.split()) <= SHORT
    if last is not None and (_GOES_ON.match(text) or (is_short and _POINTS_BACK.search(text))):
        return Turn((f"{last.question[:KEPT]} {text}", text))
    return Turn((text,))


def waits_for_a_person(history: Sequence[Exchange]) -> list[str]:
    """The questions that were handed over and that no person has answered yet."""
    found: list[str] = []
    for exchange in history:
        if exchange.kind is Kind.AGENT:
            found = []
        elif exchange.kind is Kind.HANDED:
            found.append(exchange.question)
    return found


def _complaint(complaint: re.Match[str], asked: Sequence[Exchange], last: Exchange, *, to_a_person: bool) -> Turn:
    rest = _MEANT.sub("", complaint.string[complaint.end() :]).strip()
    question = rest if len(rest.split()) >= FEWEST else last.question
    alike = _run(asked, last.question)
    tried = frozenset(each for exchange in alike for each in (exchange.entry, *exchange.sources[:1]) if each)
    complaints = len(alike) if question == last.question else 1
    return Turn((question,), tried, complaints, to_a_person=to_a_person)


def _is_of_a_person(history: Sequence[Exchange]) -> bool:
    """Whether the last answer to a question was a person's."""
    return next((each.kind is Kind.AGENT for each in reversed(history) if each.kind is not Kind.POLITE), False)


def _run(asked: Sequence[Exchange], question: str) -> list[Exchange]:
    """The last exchanges on one question."""
    found = []
    for exchange in reversed(asked):
        if exchange.question != question:
            break
        found.append(exchange)
    return found
