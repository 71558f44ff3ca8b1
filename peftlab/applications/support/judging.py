"""How good the whole is on questions that nothing has learned from, and what each part is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.support.answering import Responder
from peftlab.applications.support.attacks import attacked
from peftlab.applications.support.company import CALIBRATION, TEST, Question
from peftlab.applications.support.fitting import is_among, is_first, positions, sureness, within_reach
from peftlab.applications.support.search import FULL, FUSED, SCORES, Ranked, Read
from peftlab.applications.support.turns import Kind
from peftlab.core.application import Workplace
from peftlab.core.audit import Figure, Findings
from peftlab.statistics.means import mean_with_interval
from peftlab.statistics.out_of_scope import auroc, false_acceptance
from peftlab.statistics.selective_risk import choose_bound

if TYPE_CHECKING:
    from peftlab.applications.support import Support

SHUFFLES = 2
Flags = NDArray[np.bool_]


def judge(support: Support, place: Workplace) -> Findings:
    """Ask all test questions."""
    responder = Responder.load(support, place)
    company, searcher, decision = responder.company, responder.searcher, responder.decision
    asked = company.of(TEST)
    texts, right = [each.text for each in asked], positions(company, asked)
    place.reporter.say(f"{len(asked)} test questions, {int((right < 0).sum())} of them out of scope")
    read = searcher.read(texts)
    count = support.considered
    ranked = searcher.rank(texts, read, decision.full, decision.again, count)
    sure = sureness(decision.first, ranked, decision.set_aside)
    given = (sure >= decision.answer.threshold) & ~np.isin(ranked.order[:, 0], decision.set_aside)
    figures = [
        *_of_answers("system", given, is_first(ranked, right)),
        *_shuffled(support, responder, asked, sure, ranked, right),
        *_retrieval(responder, texts, read, ranked, right),
        *_intents(responder, asked, read, ranked),
    ]
    written, notes = _written(support, responder, asked, ranked, right, given)
    figures += attacked(responder, support.evaluated_texts, support.seed)
    return Findings([*figures, *written], notes)


def _of_answers(name: str, given: Flags, right: Flags, drawn: str = "") -> list[Figure]:
    share = _share(f"{name}.answered", given, f"Share of questions that entries answered without a person{drawn}.")
    if not given.any():
        return [share]
    said = f"Of the questions that entries answered, the share answered wrongly{drawn}."
    wrong = _share(f"{name}.wrong", ~right[given], said)
    return [share, replace(wrong, higher_is_better=False)]


def _shuffled(
    support: Support,
    responder: Responder,
    asked: Sequence[Question],
    sure: NDArray[np.float64],
    ranked: Ranked,
    right: NDArray[np.int64],
) -> list[Figure]:
    """The bound chosen anew on other questions: those of calibration and test are mixed and cut again, twice."""
    company, searcher, decision = responder.company, responder.searcher, responder.decision
    others = company.of(CALIBRATION)
    texts, theirs = [each.text for each in others], positions(company, others)
    again = searcher.rank(texts, searcher.read(texts), decision.full, decision.again, ranked.order.shape[1])
    confidences = np.concatenate([sureness(decision.first, again, decision.set_aside), sure])
    correct = np.concatenate([is_first(again, theirs), is_first(ranked, right)])
    figures, drawn = [], "; the questions of calibration and test are mixed and cut again"
    for number in range(1, SHUFFLES + 1):
        order = np.random.default_rng([support.seed, number]).permutation(len(correct))
        choosing, judged = order[: len(others)], order[len(others) :]
        bound = choose_bound(confidences[choosing], ~correct[choosing], support.error_rate, support.certainty)
        given = confidences[judged] >= bound.threshold
        figures += _of_answers(f"system.shuffle_{number}", given, correct[judged], drawn)
    return figures


def _retrieval(
    responder: Responder, texts: Sequence[str], read: Read, ranked: Ranked, right: NDArray[np.int64]
) -> list[Figure]:
    """Recall@1 of each way to search, on the questions that an entry answers; the FAQ without intents apart."""
    decision, entries = responder.decision, responder.company.entries
    has_intent = np.array([entry.intent is not None for entry in entries])
    ways = {
        "embedding": read.own.argmax(axis=1),
        "past_questions": read.features[:, :, 1].argmax(axis=1),
        "bm25": read.words.argmax(axis=1),
        "fused": decision.fused.log_odds(read.features[:, :, FUSED]).argmax(axis=1),
        "with_intents": decision.full.log_odds(read.features[:, :, FULL]).argmax(axis=1),
    }
    if decision.again is not None:
        ways["reranked"] = ranked.order[:, 0]
    answered = right >= 0
    plain = answered & ~has_intent[right]
    figures = []
    for name, first in ways.items():
        hits = first == right
        figures.append(_share(f"{name}.recall_at_1", hits[answered], "The first entry is the right one."))
        if plain.any() and has_intent.any():
            sentence = "The same, for entries without an intent."
            figures.append(_share(f"{name}.faq_recall_at_1", hits[plain], sentence))
    return figures


def _intents(responder: Responder, asked: Sequence[Question], read: Read, ranked: Ranked) -> list[Figure]:
    """The part alone, and what the application goes by: the intent of the entry that all parts together put first."""
    names = responder.searcher.intent_names
    if not names:
        return []
    at = {name: place for place, name in enumerate(names)}
    known = np.array([at.get(each.intent or "", -1) for each in asked])
    outside = np.array([each.intent == responder.support.out_of_scope for each in asked])
    inside = known >= 0
    figures = []
    if inside.any():
        hits = read.intent_logits[inside].argmax(axis=1) == known[inside]
        figures.append(_share("intents.accuracy", hits, "The intent is told rightly, of questions within the scope."))
        of_entry = np.array([at.get(entry.intent or "", -1) for entry in responder.company.entries])
        if (of_entry >= 0).any():  # else the application goes by no intent
            first = of_entry[ranked.order[:, 0]]
            sentence = "The intent is told rightly, by the entry that search and intents together put first."
            figures.append(_share("system.intent_accuracy", first[inside] == known[inside], sentence))
    if inside.any() and outside.any():
        figures += _out_of_scope(responder, read, inside, outside)
    return figures


def _out_of_scope(responder: Responder, read: Read, inside: Flags, outside: Flags) -> list[Figure]:
    """Each score alone, and all of them as the application weighs them."""
    ways = {name: read.strangeness[:, at] for at, name in enumerate(SCORES)}
    ways["together"] = responder.decision.strange.log_odds(read.strangeness)
    figures = []
    for name, scores in ways.items():
        known, strange = scores[inside], scores[outside]
        area = auroc(known, strange)
        through = false_acceptance(known, strange, np.random.default_rng(0), draws=200)
        for what, found, sentence, higher in (
            (
                "auroc",
                area,
                "Of pairs of a strange and a known question, the strange one is told (AUROC); 50 % is chance.",
                True,
            ),
            ("fpr95", through, "Strange questions that pass where 95 % of the known ones do.", False),
        ):
            figures.append(
                Figure(f"out_of_scope.{name}_{what}", found.value, len(known) + len(strange), sentence, "questions",
                       found.low, found.high, higher_is_better=higher)
            )  # fmt: skip
    return figures


def _written(
    support: Support,
    responder: Responder,
    asked: Sequence[Question],
    ranked: Ranked,
    right: NDArray[np.int64],
    given: Flags,
) -> tuple[list[Figure], list[str]]:
    """Written answers, of a sample: they take seconds each."""
    decision = responder.decision
    sure = decision.among.probability(ranked.evidence)
    open_ = ~given & (sure >= decision.write.threshold)
    figures = [_share("writer.asked", open_, "Share of questions that no entry answers, and a text is written for.")]
    if support.writer is None or not open_.any():
        return figures, ["No text was written: no question was left for that."]
    held = is_among(ranked, within_reach(right, decision.set_aside), support.passages)[open_]
    figures.append(_share("writer.right_sources", held, "The right entry is among the passages that it writes from."))
    places = np.flatnonzero(open_)
    chance = np.random.default_rng(support.seed)
    if len(places) > support.evaluated_texts:
        places = np.sort(chance.choice(places, support.evaluated_texts, replace=False))
    kept, cited, seconds = [], [], []
    for at in places.tolist():
        began = time.monotonic()
        reply = responder.respond(asked[at].text)
        seconds.append(time.monotonic() - began)
        kept.append(reply.kind is Kind.WRITTEN)
        if reply.kind is Kind.WRITTEN:
            cited.append(asked[at].entry in {entry.id for entry in reply.sources})
    figures.append(
        _share("writer.supported", np.array(kept), "Something is left once unsupported sentences are dropped.")
    )
    if cited:
        figures.append(
            _share("writer.cites_right_entry", np.array(cited), "A text that is left cites the right entry.")
        )
    mean = mean_with_interval(np.array(seconds))
    figures.append(
        mean.figure(
            "writer.seconds", "Seconds for a written answer.", "questions", unit="number", higher_is_better=False
        )
    )
    return figures, []


def _share(name: str, flags: NDArray[np.bool_], sentence: str) -> Figure:
    mean = mean_with_interval(np.asarray(flags, dtype=np.float64))
    return mean.figure(name, sentence, "questions", higher_is_better=True)
