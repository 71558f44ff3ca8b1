"""Which sentences of a FAQ stand out from the rest, for its owner to look at.

An entry that is sure is given as a whole, with whatever somebody has planted in it. No rule tells that from the rest: a
telephone number may be right or false. But what is planted often stands out, so ``app build`` lists what does:
sentences that are least like the rest of their entry, addresses and numbers that no other entry has, and orders to a
model. Most of what is listed is harmless, and nothing is left out of an answer for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.applications.support.belonging import Embed, likeness
from peftlab.applications.support.company import Entry
from peftlab.applications.support.contacts import contacts
from peftlab.applications.support.hostile import gives_orders
from peftlab.applications.support.sentences import sentences

LEAST = 0.05
"""Share of all sentences that are listed as least like the rest of their entry."""


@dataclass(frozen=True)
class Peculiar:
    """A sentence that stands out.

    Args:
        entry: The id of its entry.
        sentence: As it stands there.
        why: In which way.
    """

    entry: str
    sentence: str
    why: str


def find_peculiar(entries: Sequence[Entry], embed: Embed) -> list[Peculiar]:
    """What stands out, those with orders and addresses first, then the least like.

    Args:
        entries: The FAQ.
        embed: Of the part ``embedding``.
    """
    held = Counter(each for entry in entries for each in contacts(f"{entry.question}\n{entry.answer}"))
    rows = [
        (entry.id, sentence, float(value))
        for entry in entries
        for parts in [sentences(entry.answer)]
        for sentence, value in zip(parts, likeness(entry, parts, embed), strict=True)
    ]
    found: dict[tuple[str, str], str] = {}
    for entry in entries:
        if gives_orders(f"{entry.question}\n{entry.answer}"):
            found[entry.id, entry.question] = "the entry gives orders to a model"
    for name, sentence, _ in rows:
        alone = sorted(each for each in contacts(sentence) if held[each] == 1)
        if alone:
            found[name, sentence] = f"no other entry has {', '.join(alone)}"
    for name, sentence, _ in sorted(rows, key=lambda row: row[2])[: int(np.ceil(LEAST * len(rows)))]:
        found.setdefault((name, sentence), "little like the rest of its entry")
    return [Peculiar(name, sentence, why) for (name, sentence), why in found.items()]


def peculiar_text(found: Sequence[Peculiar]) -> str:
    """As a file for people."""
    return "".join(f"{each.entry}: {each.why}\n    {each.sentence}\n" for each in found)
