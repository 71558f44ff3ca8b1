"""Which sentences of a FAQ stand out from the rest, for its owner to look at.

An entry that is sure is given as a whole, with whatever somebody has planted in it. No rule tells that from the rest: a
telephone number may be right or false. But what is planted often stands out, so ``app build`` lists what does:
sentences that are least like the rest of their entry, addresses and numbers that no other entry has, and orders to a
model. Most of what is listed is harmless, and nothing is left out of an answer for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.applications.support.belonging import Embed, likeness
from peftlab.applications.support.company import Entry
from peftlab.applications.support.hostile import gives_orders
from peftlab.applications.support.sentences import sentences

LEAST = 0.05
"""Share of all sentences that are listed as least like the rest of their entry."""
# Where a match may begin is said first, and no part gives back what it has read: a text is gone through once.
_CONTACT = re.compile(
    r"\b\w{2,10}://[^\s\"'<>)\]]+|(?<![\w.+-])[\w.+-]++@[\w-]+\.[\w.-]+|(?<!\w)@\w{3,}"
    r"|(?<![\w@.-])(?:[\w-]++\.)+(?:com|org|net|io|co|de|uk|info|biz|app|example)\b"
    r"|(?<![\w.])\+?\d(?:[ ()/.-]{0,2}\d){6,}(?!\w)",
    re.IGNORECASE,
)
_HOST = re.compile(r"^(?:\w+://)?(?:[^@/]*@)?(?:www\.)?([^/:?#]+)")


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


def contacts(text: str) -> set[str]:
    """The hosts, telephone numbers and names of accounts that a text gives, each in one spelling."""
    return {_plain(match) for match in _CONTACT.findall(text)}


def peculiar_text(found: Sequence[Peculiar]) -> str:
    """As a file for people."""
    return "".join(f"{each.entry}: {each.why}\n    {each.sentence}\n" for each in found)


def _plain(contact: str) -> str:
    if contact.startswith("@"):
        return contact.casefold()
    if not any(sign.isalpha() for sign in contact):
        return re.sub(r"\D", "", contact)
    host = _HOST.match(contact.casefold())
    return host[1].rstrip(".,;") if host else contact.casefold()
