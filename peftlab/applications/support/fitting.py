"""What the application learns itself: how to weigh its parts, on validation; from when to be sure, on calibration."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.support.belonging import choose_belonging
from peftlab.applications.support.checking import choose_containment
from peftlab.applications.support.company import CALIBRATION, VALIDATION, Company, Question
from peftlab.applications.support.hostile import gives_orders
from peftlab.applications.support.lessons import load_company
from peftlab.applications.support.parts import load_parts
from peftlab.applications.support.peculiar import find_peculiar, peculiar_text
from peftlab.applications.support.search import FULL, FUSED, Ranked, Read, Searcher
from peftlab.applications.support.weights import Weights
from peftlab.core.application import Workplace
from peftlab.core.files import write_text
from peftlab.statistics.selective_risk import Bound, choose_bound, rows_needed

if TYPE_CHECKING:
    from peftlab.applications.support import Support

DECISION_NAME, PECULIAR_NAME = "decision.json", "look_at.txt"
CANDIDATES = 15
"""Of a question, for the weights: the entries that look best."""


@dataclass(frozen=True)
class Decision:
    """How the parts are weighed, and from when an answer is sure.

    Args:
        fused: Weighs vectors and words.
        full: Weighs intents too.
        again: Weighs the second reading too; None: there is none.
        first: How sure it is that the first entry answers.
        among: How sure it is that one of the passages does.
        strange: How sure it is that nothing in the FAQ answers.
        answer: From when the first entry is given as the answer.
        write: From when an answer is written from the passages.
        containment: How much of a sentence an entry must have.
        set_aside: Positions of entries that give orders to a model: people answer with them.
        belonging: How like the rest of its entry a sentence is that a written answer may be made of.
    """

    fused: Weights
    full: Weights
    again: Weights | None
    first: Weights
    among: Weights
    strange: Weights
    answer: Bound
    write: Bound
    containment: float
    set_aside: tuple[int, ...]
    belonging: float

    def save(self, folder: Path) -> None:
        """Write it down."""
        text = json.dumps(dataclasses.asdict(self), indent=2).replace("Infinity", "null")
        write_text(folder / DECISION_NAME, text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Decision:
        """Read what was written down."""
        values: dict[str, Any] = json.loads((folder / DECISION_NAME).read_text(encoding="utf-8"))
        for key in ("fused", "full", "again", "first", "among", "strange"):
            values[key] = Weights.read(values[key]) if values[key] is not None else None
        for key in ("answer", "write"):
            bound = values[key]
            values[key] = Bound(
                **{**bound, "threshold": math.inf if bound["threshold"] is None else bound["threshold"]}
            )
        return cls(**{**values, "set_aside": tuple(values["set_aside"])})


def fit(support: Support, place: Workplace) -> None:
    """Write ``index.safetensors``, ``decision.json``, and for people ``look_at.txt``.

    Raises:
        UnsupportedError: A part does not fit.
    """
    say = place.reporter.say
    company = load_company(place.folder)
    parts = load_parts(place, with_writer=False)
    check_writer(place)
    searcher = Searcher(company, parts)
    searcher.save(place.folder)
    right = positions(company, company.of(VALIDATION))
    texts = [each.text for each in company.of(VALIDATION)]
    read = searcher.read(texts)
    fused, full = (_weigh(read, right, features) for features in (FUSED, FULL))
    again = None
    if parts.reranking is not None:
        plain = searcher.rank(texts, read, full, None, support.considered)
        again = _weigh_again(plain, searcher.read_again(texts, plain.order), right)
    ranked = searcher.rank(texts, read, full, again, support.considered)
    first = Weights.fit(ranked.evidence, is_first(ranked, right))
    among = Weights.fit(ranked.evidence, is_among(ranked, right, support.passages))
    strange = Weights.fit(read.strangeness, right < 0)
    belonging = choose_belonging(company.entries, parts.embed, support.quotable, seed=support.seed)
    decision = _with_bounds(support, searcher, company, (fused, full, again, first, among, strange), belonging)
    decision.save(place.folder)
    for line in told(support, decision, company):
        say(line)
    found = find_peculiar(company.entries, parts.embed)
    write_text(place.folder / PECULIAR_NAME, peculiar_text(found))
    if found:
        where = place.folder / PECULIAR_NAME
        say(f"{len(found)} sentences of the FAQ stand out: look at them before you serve, in {where}")


def check_writer(place: Workplace) -> None:
    """Refuse a writing part that does not write, without loading its weights."""
    from peftlab.artifact.saved_run import SavedRun
    from peftlab.inference.generate import generating_task

    if "writer" in place.runs:
        generating_task(SavedRun.open(place.runs["writer"]))


def _with_bounds(
    support: Support,
    searcher: Searcher,
    company: Company,
    weights: tuple[Weights, Weights, Weights | None, Weights, Weights, Weights],
    belonging: float,
) -> Decision:
    fused, full, again, first, among, strange = weights
    asked = company.of(CALIBRATION)
    texts, right = [each.text for each in asked], positions(company, asked)
    aside = tuple(at for at, entry in enumerate(company.entries) if gives_orders(f"{entry.question}\n{entry.answer}"))
    ranked = searcher.rank(texts, searcher.read(texts), full, again, support.considered)
    answer = choose_bound(
        sureness(first, ranked, aside), ~is_first(ranked, right), support.error_rate, support.certainty
    )
    write = choose_bound(
        among.probability(ranked.evidence),
        ~is_among(ranked, within_reach(right, aside), support.passages),
        support.error_rate,
        support.certainty,
    )
    return Decision(
        fused,
        full,
        again,
        first,
        among,
        strange,
        answer,
        write,
        choose_containment(company.entries, support.seed),
        aside,
        belonging,
    )


def positions(company: Company, questions: Sequence[Question]) -> NDArray[np.int64]:
    """Which entry is right for each question; -1: none is."""
    at = {entry.id: place for place, entry in enumerate(company.entries)}
    return np.array([at[each.entry] if each.entry is not None else -1 for each in questions], dtype=np.int64)


def sureness(first: Weights, ranked: Ranked, aside: Sequence[int]) -> NDArray[np.float64]:
    """How sure the first entry of each question is; not at all where it is set aside: it is never given as an answer.

    So it does not count among the answers whose share of wrong ones is bound, either.
    """
    return np.where(np.isin(ranked.order[:, 0], aside), 0.0, first.probability(ranked.evidence))


def within_reach(right: NDArray[np.int64], aside: Sequence[int]) -> NDArray[np.int64]:
    """Which entry is right for each question; -1 also where it is set aside, from which nothing is written."""
    return np.where(np.isin(right, aside), -1, right)


def is_first(ranked: Ranked, right: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the first entry is right (questions)."""
    return np.asarray(ranked.order[:, 0] == right)


def is_among(ranked: Ranked, right: NDArray[np.int64], passages: int) -> NDArray[np.bool_]:
    """Whether the right entry is among the passages (questions)."""
    return np.asarray((ranked.order[:, :passages] == right[:, None]).any(axis=1))


def _weigh(read: Read, right: NDArray[np.int64], features: slice) -> Weights:
    """Fit that the right entry of a question comes before the other likely ones."""
    better, worse = [], []
    nearness = read.features[:, :, 0] + read.features[:, :, 1]
    likely = np.argsort(-nearness, axis=1, kind="stable")[:, :CANDIDATES]
    for question, entry in enumerate(right.tolist()):
        others = likely[question][likely[question] != entry] if entry >= 0 else []
        for other in others:
            better.append(read.features[question, entry, features])
            worse.append(read.features[question, other, features])
    shape = (-1, features.stop)
    return Weights.fit_order(np.array(better).reshape(shape), np.array(worse).reshape(shape))


def _weigh_again(plain: Ranked, second: NDArray[np.float64], right: NDArray[np.int64]) -> Weights:
    """The same for the second reading, among the entries that were read again."""
    both, is_right = np.stack([plain.scores, second], axis=2), plain.order == right[:, None]
    pairs = [
        (both[question, place], both[question, other])
        for question, place in zip(*np.nonzero(is_right), strict=True)
        for other in np.flatnonzero(~is_right[question])
    ]
    rows = np.array(pairs).reshape(-1, 2, 2)
    return Weights.fit_order(rows[:, 0], rows[:, 1])


def told(support: Support, decision: Decision, company: Company) -> list[str]:
    """The bounds, in sentences."""
    lines = []
    bounds = [(decision.answer, "answered by an entry")]
    if support.writer is not None:
        bounds.append((decision.write, "sure enough to be written for, with the right entry among the passages"))
    for bound, what in bounds:
        if math.isinf(bound.threshold):
            needed = rows_needed(support.error_rate, support.certainty)
            lines.append(
                f"no question is {what}: no threshold keeps wrong answers under {support.error_rate:.1%} for certain "
                f"(calibration has {bound.rows} questions; {needed} right ones in a row are needed at least)"
            )
        else:
            lines.append(
                f"{bound.answered} of {bound.rows} questions of calibration are {what}, {bound.wrong} of them wrongly: "
                f"at most {bound.upper:.2%} are, with {support.certainty:.0%} certainty"
            )
    if support.writer is not None and decision.containment > 1:
        lines.append(
            "no text is written: entries say each other's sentences too often to tell which of them supports one"
        )
    for at in decision.set_aside:
        lines.append(f"the entry `{company.entries[at].id}` gives orders to a model: only people answer with it")
    return lines
