"""Which sentences of an entry belong to it.

A list of patterns knows some orders that somebody may plant in an entry, and misses most that it was not written for.
But whatever a planted sentence says, it is seldom near to what the entry says: its vector is unlike that of the entry's
question and other sentences. So written answers are made without the sentences that are least like the rest of their
entry. How unlike is too unlike is a quantile of the company's own sentences (:func:`choose_belonging`): some harmless
ones go too, such as "I hope this helps". What speaks of the entry's own matter and gives
a false contact is like the rest, so sentences go too whose contacts no other sentence of the FAQ gives. An entry that
is given as a whole stays whole: it is the company's own text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.support.checking import stems
from peftlab.applications.support.company import Entry
from peftlab.applications.support.contacts import contacts
from peftlab.applications.support.hostile import gives_orders
from peftlab.applications.support.sentences import sentences

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Vectors of length 1 (texts × size)."""
MOST_ENTRIES = 1000
"""So many are looked at to choose how unlike is too unlike."""


class Belonging:
    """Leaves out of entries what does not belong to them; each entry is looked at once.

    Args:
        embed: Of the part ``embedding``.
        least: The least similarity of a sentence to the rest of its entry.
        vouched: The contacts that sentences may give, by :mod:`peftlab.applications.support.contacts`; None: any.
    """

    def __init__(self, embed: Embed, least: float, vouched: frozenset[str] | None = None) -> None:
        self._embed, self._least, self._vouched = embed, least, vouched
        self._quotable = lru_cache(maxsize=10_000)(self._look)

    def quotable(self, entry: Entry) -> Entry:
        """The entry with those sentences of its answer that belong to it; without its question where that does not.

        One that gives orders to a model stays as it is: without its first words the others would no longer look so.
        """
        return self._quotable(entry)

    def _look(self, entry: Entry) -> Entry:
        if gives_orders(f"{entry.question}\n{entry.answer}"):
            return entry
        parts = sentences(entry.answer)
        near = likeness(entry, parts, self._embed)
        kept = [part for part, value in zip(parts, near, strict=True) if value >= self._least and self._is_known(part)]
        return replace(entry, question=entry.question if self._is_known(entry.question) else "", answer=" ".join(kept))

    def _is_known(self, text: str) -> bool:
        return self._vouched is None or contacts(text) <= self._vouched


def choose_belonging(entries: Sequence[Entry], embed: Embed, quotable: float, *, seed: int = 0) -> float:
    """The similarity that a share of the company's own sentences reaches.

    Args:
        entries: The FAQ.
        embed: As of :class:`Belonging`.
        quotable: The share.
        seed: Draws entries where there are many.
    """
    drawn = np.random.default_rng(seed).permutation(len(entries))[:MOST_ENTRIES]
    found = np.concatenate([likeness(entries[at], sentences(entries[at].answer), embed) for at in sorted(drawn)])
    return float(np.quantile(found, 1 - quotable)) if len(found) else -1.0


def likeness(entry: Entry, parts: Sequence[str], embed: Embed) -> NDArray[np.float32]:
    """The cosine of each sentence of an answer to the rest of its entry; none vouches for its copy."""
    if not parts:
        return np.zeros(0, dtype=np.float32)
    words = [stems(part) for part in parts]
    others = [
        " ".join([entry.question, *(part for part, its in zip(parts, words, strict=True) if its != own)])
        for own in words
    ]
    vectors = embed([*parts, *others])
    found: NDArray[np.float32] = (vectors[: len(parts)] * vectors[len(parts) :]).sum(axis=1)
    return found
