"""An answer: the entry where that is sure; else a text that the entries support; else a person, with a summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peftlab.applications.support.belonging import Belonging
from peftlab.applications.support.company import Company, Entry, Question
from peftlab.applications.support.contacts import vouched
from peftlab.applications.support.fitting import Decision
from peftlab.applications.support.hostile import gives_orders
from peftlab.applications.support.lessons import load_company
from peftlab.applications.support.parts import Parts, load_parts
from peftlab.applications.support.questions import parted
from peftlab.applications.support.search import Searcher
from peftlab.applications.support.turns import Exchange, Kind, Turn, understand, waits_for_a_person
from peftlab.applications.support.writing import Writer, Written
from peftlab.core.application import Workplace

if TYPE_CHECKING:
    from peftlab.applications.support import Support

Show = Callable[[str], None]
Begin = Callable[[Sequence[Entry]], None]
MOST_COMPLAINTS = 2
"""After so many answers to one question that did not help, a person answers."""
ASK, COMES = "Ask me anything about our service.", "A colleague will answer here."
GREETING, WELCOME = "Hello.", "You are welcome."
PASSED = "I have passed this to a colleague, who will answer here."
HANDED = f"I am not sure enough to answer this. {PASSED}"
SUGGESTED = 3


@dataclass(frozen=True)
class Candidate:
    """An entry that may answer.

    Args:
        entry: Which.
        probability: That it is right, if one of those that were ordered is.
    """

    entry: Entry
    probability: float


@dataclass(frozen=True)
class Reply:
    """What a customer is told.

    Args:
        kind: Whose answer it is.
        text: The answer.
        question: As it was searched for.
        confidence: That the entry, or one of the sources, is right.
        entry: That was given.
        sources: That a written text stands on, in the order of its numbers.
        candidates: The best entries, for agents.
        reason: Why it was handed over.
    """

    kind: Kind
    text: str
    question: str
    confidence: float = 0.0
    entry: Entry | None = None
    sources: Sequence[Entry] = ()
    candidates: Sequence[Candidate] = ()
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """What a search has found for one question."""

    question: str
    candidates: Sequence[Candidate]
    first: float
    among: float
    positions: Sequence[int]


class Responder:
    """Answers. Nothing of a conversation is kept here.

    Args:
        support: The application's recipe.
        company: Entries and past questions.
        parts: In memory.
        searcher: Over them.
        decision: From when to be sure.
    """

    def __init__(
        self, support: Support, company: Company, parts: Parts, searcher: Searcher, decision: Decision
    ) -> None:
        self.support, self.company, self.searcher, self.decision = support, company, searcher, decision
        self._parts = parts
        self._writer = None
        if parts.writer is not None and decision.containment <= 1:  # else nothing that is written could be kept
            known = vouched(company.entries) if support.quotable < 1 else None
            belonging = Belonging(parts.embed, decision.belonging, known)
            self._writer = Writer(parts.writer, decision.containment, support.max_new_tokens, belonging)

    @classmethod
    def load(cls, support: Support, place: Workplace) -> Responder:
        """From a built folder."""
        folder: Path = place.folder
        company, parts = load_company(folder), load_parts(place)
        return cls(support, company, parts, Searcher.load(folder, company, parts), Decision.load(folder))

    def answers(
        self,
        text: str,
        history: Sequence[Exchange] = (),
        show: Show = lambda text: None,
        begin: Begin = lambda entries: None,
    ) -> list[Reply]:
        """As :meth:`respond`; of several questions in one message, each has its own answer.

        They are taken apart only where two of them or more have different entries that are sure; what is left goes to
        a person. Else the message is one question: most that have two question marks ask one thing.
        """
        turn = understand(text, history)
        if turn.is_plain:
            found = [self.find(part) for part in parted(text)]
            given = {each.candidates[0].entry.id: each for each in reversed(found) if self._is_sure(each)}
            if len(given) > 1:
                return [
                    self._given(each) if self._is_sure(each) else _handed(each, "no entry is sure enough", HANDED)
                    for each in found
                    if not self._is_sure(each) or given[each.candidates[0].entry.id] is each
                ]
        return [self.respond(text, history, show, begin)]

    def respond(
        self,
        text: str,
        history: Sequence[Exchange] = (),
        show: Show = lambda text: None,
        begin: Begin = lambda entries: None,
    ) -> Reply:
        """Answer a message.

        Args:
            text: What the customer says.
            history: What was said before in this conversation.
            show: Is given each sentence of a written answer once it is checked.
            begin: Is told, at the first token of a written answer, of the entries that it is written from.
        """
        turn = understand(text, history)
        if turn.is_thanks:
            return Reply(Kind.POLITE, _polite(turn, history), "")
        found = max((self.find(question, turn.tried) for question in turn.questions), key=lambda each: each.first)
        if turn.wants_person:
            return _handed(found, "the customer asks for a person", PASSED)
        if turn.to_a_person:
            return _handed(found, "what a person answered did not help", PASSED)
        if turn.complaints >= MOST_COMPLAINTS:
            return _handed(found, f"{turn.complaints} answers did not help", PASSED)
        unsure = self._why_unsure(found)
        if unsure is not None:
            return _handed(found, unsure)
        if found.first >= self.decision.answer.threshold and not turn.complaints:
            return self._given(found)
        if turn.complaints and found.among >= self.decision.write.threshold and self._may_answer(found.positions[0]):
            return self._given(found)
        return self._written(found, show, begin)

    @property
    def writes(self) -> bool:
        """Whether there is a part that writes."""
        return self._writer is not None

    def write(self, question: str, entries: Sequence[Entry], show: Show = lambda text: None) -> Written:
        """What is written from some entries, and supported by them; nothing where no part writes."""
        return Written("", [], 0) if self._writer is None else self._writer.write(question, entries, show)

    def find(self, question: str, tried: frozenset[str] = frozenset()) -> Found:
        """Search for one question; entries that did not help are left out."""
        from scipy.special import softmax

        support, decision = self.support, self.decision
        read = self.searcher.read([question])
        count = support.considered + len(tried)
        ranked = self.searcher.rank([question], read, decision.full, decision.again, count)
        positions = [at for at in ranked.order[0].tolist() if self.company.entries[at].id not in tried]
        shares = dict(zip(ranked.order[0].tolist(), softmax(ranked.scores[0]).tolist(), strict=True))
        # What is known of the first one says nothing of the next, where the first did not help.
        is_first = bool(positions) and positions[0] == int(ranked.order[0, 0])
        first = float(decision.first.probability(ranked.evidence)[0]) if is_first else 0.0
        among = float(decision.among.probability(ranked.evidence)[0])
        candidates = [Candidate(self.company.entries[at], shares[at]) for at in positions[:SUGGESTED]]
        return Found(question, candidates, first, among, positions)

    def _is_sure(self, found: Found) -> bool:
        return (
            bool(found.positions)
            and found.first >= self.decision.answer.threshold
            and self._may_answer(found.positions[0])
        )

    def _why_unsure(self, found: Found) -> str | None:
        if not found.positions:
            return "no entry is left that was not tried"
        if not self._is_sure(found) and found.among < self.decision.write.threshold:
            return "no entry is sure enough"
        return None

    def _may_answer(self, position: int) -> bool:
        return position not in self.decision.set_aside

    def _given(self, found: Found) -> Reply:
        entry = found.candidates[0].entry
        if not self._may_answer(found.positions[0]):
            return _handed(found, "the entry gives orders to a model, so that only a person answers with it")
        return Reply(Kind.ENTRY, entry.answer, found.question, found.first, entry, (), found.candidates)

    def _written(self, found: Found, show: Show, begin: Begin) -> Reply:
        if self._writer is None:
            return _handed(found, "no entry is sure enough, and nothing writes")
        if gives_orders(found.question):
            return _handed(found, "the question gives orders to a model")
        passages = [at for at in found.positions[: self.support.passages] if self._may_answer(at)]
        entries = [self.company.entries[at] for at in passages]
        written = self._writer.write(found.question, entries, show, lambda: begin(entries))
        if not written.text:
            return _handed(found, f"none of the {written.dropped} sentences that were written is supported")
        sources = [entries[at] for at in written.sources]
        return Reply(Kind.WRITTEN, written.text, found.question, found.among, None, sources, found.candidates)

    def past_answers(self, text: str) -> list[Question]:
        """Past questions near a text, with what agents answered: for agents' eyes only."""
        return [each for each in self.searcher.similar_past(text, SUGGESTED) if each.reply]


def _handed(found: Found, reason: str, text: str = HANDED) -> Reply:
    return Reply(Kind.HANDED, text, found.question, found.first, None, (), found.candidates, reason)


def _polite(turn: Turn, history: Sequence[Exchange]) -> str:
    said = GREETING if turn.is_greeting else WELCOME
    return f"{said} {COMES if waits_for_a_person(history) else ASK}"


def summary(first: str, history: Sequence[Exchange], replies: Sequence[Reply], entries: Mapping[str, Entry]) -> str:
    """What an agent must know, in a few lines: made of what was said, nothing is written anew.

    Args:
        first: The customer's first text; empty where this is the first.
        history: What was answered before.
        replies: The answers now; empty where none is handed over.
        entries: All entries by their ids; those that were given are named by their questions.
    """
    handed = [each for each in replies if each.kind is Kind.HANDED]
    lines = [line for each in handed for line in (f"Asked: {each.question}", f"Handed over because {each.reason}.")]
    now = {each.question for each in handed}
    waits = [each for each in dict.fromkeys(waits_for_a_person(history)) if each not in now]
    if waits:
        lines.append("Waits already: " + "; ".join(waits))
    if first:
        lines.append(f"The first message: {first}")
    given = [Exchange(each.question, each.kind, each.entry.id if each.entry else None) for each in replies]
    tried = []
    for exchange in (*history, *given):
        ids = (exchange.entry,) if exchange.entry else exchange.sources
        names = "; ".join(entries[each].question if each in entries else each for each in ids)
        if names and exchange.kind is not Kind.AGENT:
            tried.append(f"- {names}" if exchange.kind is Kind.ENTRY else f"- a text written from: {names}")
    if tried:
        lines += ["Given before:", *tried]
    nearest = [each.entry.question for reply in handed for each in reply.candidates]
    if nearest:
        lines.append("Nearest entries: " + "; ".join(nearest))
    return "\n".join(lines)
