"""Addresses, telephone numbers and names of accounts in texts, and which of them a FAQ vouches for.

No rule tells a right telephone number from a false one. But a company says where it can be reached more than once, and
somebody who plants a number has one sentence, or one entry. So a written answer gives no contact that stands in one
sentence of the FAQ alone, or in one entry; copies of a sentence, such as in all entries, are one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from peftlab.applications.support.checking import stems
from peftlab.applications.support.company import Entry
from peftlab.applications.support.sentences import sentences

# Where a match may begin is said first, and no part gives back what it has read: a text is gone through once.
_CONTACT = re.compile(
    r"\b\w{2,10}://[^\s\"'<>)\]]+|(?<![\w.+-])[\w.+-]++@[\w-]+\.[\w.-]+|(?<!\w)@\w{3,}"
    r"|(?<![\w@.-])(?:[\w-]++\.)+(?:com|org|net|io|co|de|uk|info|biz|app|example)\b"
    r"|(?<![\w@.-])(?:[\w-]++\.)+[a-z]{2,}/\w\S*+"
    r"|(?<![\w.])\+?\d(?:[ ()/.-]{0,2}\d){6,}(?!\w)"
    r"|\b(?=[a-z]*+\d)(?=\d*+[a-z])[a-z\d]{14,}+\b",  # an account, or a wallet
    re.IGNORECASE,
)
_HOST = re.compile(r"^(?:\w+://)?(?:[^@/]*@)?(?:www\.)?([^/:?#]+)")


def contacts(text: str) -> set[str]:
    """The hosts, telephone numbers and names of accounts that a text gives, each in one spelling."""
    return {_plain(match) for match in _CONTACT.findall(text)}


def vouched(entries: Iterable[Entry]) -> frozenset[str]:
    """The contacts that at least two different sentences of a FAQ give, in two entries."""
    said: dict[str, set[frozenset[str]]] = defaultdict(set)
    within: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for sentence in (entry.question, *sentences(entry.answer)):
            for contact in contacts(sentence):
                said[contact].add(stems(sentence))
                within[contact].add(entry.id)
    return frozenset(contact for contact in said if len(said[contact]) > 1 and len(within[contact]) > 1)


def _plain(contact: str) -> str:
    if contact.startswith("@"):
        return contact.casefold()
    if not any(sign.isalpha() for sign in contact):
        return re.sub(r"\D", "", contact)
    host = _HOST.match(contact.casefold())
    return host[1].rstrip(".,;") if host else contact.casefold()
