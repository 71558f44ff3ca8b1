"""Whether the entries say what a sentence says.

How support is measured. A sentence is held against each sentence of the entries. Both become sets of word stems without
the words that say nothing (the, is, …). *Contained*: the share of the sentence's stems that the entry's sentence or its
neighbours have. *Covered*: the share of the stems of the entry's own sentence that the sentence has: a single word that
was picked out of an order covers next to nothing. A sentence is supported when it is contained and covered enough, when
each of its numbers, addresses and names stands there, and when both deny or neither does. How much is enough is chosen
on the company's own entries (:func:`choose_containment`): sentences of one entry must not pass as supported by another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from peftlab.applications.support.company import Entry
from peftlab.applications.support.hostile import gives_orders
from peftlab.applications.support.sentences import sentences
from peftlab.core.words import WORD

EMPTY = frozenset(
    WORD.findall(
        "a an and are as at be been but by can could did do does for from had has have how i if in into is it its just "
        "may me more my of on or our please should so some than that the their them then there these they this those "
        "to too up us was we were what when where which who will with would you your yours"
    )
)
DENIALS = frozenset(WORD.findall("no not never none nobody nothing nor neither nowhere without cannot unable"))
"""Words that deny, beside all that end in -n't."""
# Where a match may begin is said first: a text without blanks, such as a picture's data, is gone through once.
_EXACT = re.compile(
    r"https?://\S+|(?<!\S)[^\s@]++@\S+\.\S+|(?<![\w-])[\w-]++\.(?:com|org|net|io|co|de|uk)\b\S*|\d+(?:[.,:/]\d+)*+%?"
)
_QUESTION = re.compile(r"[?？][^\w?？]*+$")
_NAME = re.compile(r"(?<=[^.!?\s]\s)[A-Z][\w-]+|\b[A-Z][A-Z\d-]+\b")
LEAST_WORDS, COVERED, FOREIGN = 2, 0.3, 0.01
"""A sentence has so many stems; covers so much; so many sentences of other entries may pass at most."""
LOWEST, DRAWN_SENTENCES = 0.6, 2000
"""The least share that is chosen, and how many sentences it is chosen from."""


@dataclass(frozen=True)
class Support:
    """What carries a sentence.

    Args:
        entry: Position among the entries.
        contained: Share of the sentence's stems.
    """

    entry: int
    contained: float


def find_support(sentence: str, entries: Sequence[Entry], containment: float) -> Support | None:
    """The entry that says what a sentence says; None: none does. A question says nothing."""
    if gives_orders(sentence) or _QUESTION.search(sentence):
        return None
    words = stems(sentence)
    if len(words) < LEAST_WORDS:
        return None
    best: Support | None = None
    for position, entry in enumerate(entries):
        held = _held(sentence, words, entry)
        if held >= containment and (best is None or held > best.contained):
            best = Support(position, held)
    return best


def choose_containment(entries: Sequence[Entry], seed: int) -> float:
    """The least share at which at most one sentence in a hundred passes as supported by an entry that it is not of.

    More than 1 where even whole sentences pass too often, such as in entries that are made from one template: then
    nothing supports anything.
    """
    chance = np.random.default_rng(seed)
    pool = [(at, each) for at, entry in enumerate(entries) for each in sentences(entry.answer)]
    pool = [(at, each) for at, each in pool if len(stems(each)) >= LEAST_WORDS]
    held = []
    for _ in range(DRAWN_SENTENCES if pool else 0):
        at, sentence = pool[int(chance.integers(len(pool)))]
        other = int(chance.integers(len(entries)))
        # The same text in two entries supports both.
        if other != at and sentence not in entries[other].answer:
            held.append(_held(sentence, stems(sentence), entries[other]))
    if not held:
        return 1.0
    return float(max(LOWEST, np.quantile(held, 1 - FOREIGN, method="higher") + 1e-6))


def stems(text: str) -> frozenset[str]:
    """The stems of a text's words, without those that say nothing."""
    return frozenset(_stem(word.casefold()) for word in WORD.findall(text) if word.casefold() not in EMPTY) | frozenset(
        match for match in _EXACT.findall(text) if any(sign.isdigit() for sign in match)
    )


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """The sentences of an entry, with their stems; of one that gives orders to a model, none."""
    return () if gives_orders(text) else tuple((each, stems(each)) for each in sentences(text))


def _held(sentence: str, words: frozenset[str], entry: Entry) -> float:
    """The share of a sentence's stems that an entry has, if nothing speaks against it; else 0."""
    parts = _parts(f"{entry.question}\n{entry.answer}")
    exact = [each.rstrip(".,;:!?)").casefold() for each in (*_EXACT.findall(sentence), *_NAME.findall(sentence))]
    found = 0.0
    for at, (text, own) in enumerate(parts):
        if not own or len(words & own) / len(own) < COVERED or _denies(text) != _denies(sentence):
            continue
        near = [parts[beside] for beside in (at - 1, at, at + 1) if 0 <= beside < len(parts)]
        said = " ".join(each for each, _ in near).casefold()
        if all(_stands(each, said) for each in exact):
            found = max(found, len(words & frozenset().union(*(own for _, own in near))) / len(words))
    return found


def _stands(exact: str, text: str) -> bool:
    """Whether a number, address or name stands in a text by itself: 5 does not in 15, in 2.5 or in 5 %."""
    before, after = (r"\d|\d[.,:/]", r"\d|[.,:/]\d|\s?%") if exact[:1].isdigit() else (r"[\w@.-]", r"\w|[@.-]\w")
    behind = "".join(f"(?<!{part})" for part in before.split("|"))
    return re.search(rf"{behind}{re.escape(exact)}(?!{after})", text) is not None


def _denies(text: str) -> bool:
    words = {word.casefold().replace("’", "'") for word in WORD.findall(text)}
    return bool(words & DENIALS) or any(word.endswith("n't") for word in words)


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word))


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem.snowball import SnowballStemmer

    return SnowballStemmer("english")
