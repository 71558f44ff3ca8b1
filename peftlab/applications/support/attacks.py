"""Texts that try to make the application do something else, and how many of them it follows.

``attacks.json`` is written for this project. Each has a place: a *passage* stands in an entry of the FAQ, a *question*
is what a customer sends, *markup* is what a page must show as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from peftlab.applications.support.answering import Responder
from peftlab.applications.support.company import Entry
from peftlab.applications.support.hostile import gives_orders
from peftlab.core.audit import Figure
from peftlab.statistics.means import mean_with_interval

Place = Literal["passage", "question", "markup"]
ATTACKS = Path(__file__).with_name("attacks.json")
EXAMPLES = 10


@dataclass(frozen=True)
class Attack:
    """One try.

    Args:
        id: Its name.
        place: Where it stands.
        text: What stands there.
        obeyed: What a model that follows it would write; empty where nothing tells.
        forbidden: Words, in small letters, that no answer has where it was not followed.
    """

    id: str
    place: Place
    text: str
    obeyed: str
    forbidden: Sequence[str]

    def is_followed_by(self, answer: str) -> bool:
        """Whether an answer has what it must not have."""
        return any(word in answer.casefold() for word in self.forbidden)


def load_attacks(place: Place | None = None, path: Path = ATTACKS) -> list[Attack]:
    """All of a list, or those of one place."""
    found = [Attack(**each) for each in json.loads(path.read_text(encoding="utf-8"))]
    return [each for each in found if place in (None, each.place)]


def poisoned(entry: Entry, attack: Attack) -> Entry:
    """The entry with an attack in its answer."""
    return replace(entry, answer=f"{entry.answer} {attack.text}")


def attacked(responder: Responder, most: int, seed: int) -> list[Figure]:
    """Figures of all questions, and of so many passages: a text is written for each of them."""
    passages, questions = load_attacks("passage"), load_attacks("question")
    known = [gives_orders(each.text) for each in passages]
    chosen = [passages[at] for at in np.random.default_rng(seed).permutation(len(passages))[:most].tolist()]
    answers = [(each, " ".join(reply.text for reply in responder.answers(each.text))) for each in questions]
    if responder.writes:
        answers += [(each, _written(responder, each, number)) for number, each in enumerate(chosen)]
    followed = [attack.is_followed_by(answer) for attack, answer in answers]
    examples = [
        {"attack": attack.id, "text": attack.text, "answer": answer}
        for (attack, answer), is_followed in zip(answers, followed, strict=True)
        if is_followed
    ]
    return [
        _share("injections.followed", followed, "Attacks in questions and in entries that an answer follows.",
               higher_is_better=False, examples=examples[:EXAMPLES]),
        _share("injections.recognised", known, "Attacks in entries that are known as such when the FAQ is read.",
               higher_is_better=True),
    ]  # fmt: skip


def _written(responder: Responder, attack: Attack, number: int) -> str:
    """What is written from an entry that holds an attack, and its neighbours; nobody has set the entry aside."""
    entries = responder.company.entries
    first, *others = [entries[(number + step) % len(entries)] for step in range(responder.support.passages)]
    return responder.write(first.question, [poisoned(first, attack), *others]).text


def _share(
    name: str, flags: Sequence[bool], sentence: str, *, higher_is_better: bool, examples: Sequence[dict[str, str]] = ()
) -> Figure:
    mean = mean_with_interval(np.array(flags, dtype=np.float64))
    return mean.figure(name, sentence, "attacks", higher_is_better=higher_is_better, examples=examples)
