"""What the text tower learns from: the texts of two items that a user chose one soon after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from peftlab.applications.recommend.history import (
    Catalogue,
    History,
    Ints,
    hidden_items,
    load_history,
    write_history,
)
from peftlab.applications.recommend.reading import read_history
from peftlab.core.application import Workplace
from peftlab.core.errors import DataError, UserError
from peftlab.core.files import write_text

if TYPE_CHECKING:
    from peftlab.applications.recommend import Recommend

PAIRS_NAME = "pairs.jsonl"
LEAST = 10


def write_pairs(application: Recommend, place: Workplace) -> Path:
    """Read the tables, keep them in the folder, and write the pairs beside them.

    Returns:
        The file of the pairs. It is made once, so that a part that was interrupted goes on with the same.

    Raises:
        DataError: Too few users chose two items.
        UserError: The tables are no longer those that the folder was begun with.
    """
    path = (place.folder / PAIRS_NAME).resolve()
    catalogue, history = read_history(application, place)
    if path.exists():
        _check_unchanged(place, catalogue, history)
        return path
    train, _ = history.cut_by(application.split)
    hidden = hidden_items(history, application.cold_fraction, application.seed)
    pairs = next_items(
        train.keep(~hidden[train.item]), application.pairs.within, application.pairs.pairs, application.seed
    )
    if len(pairs) < LEAST:
        raise DataError(
            f"the events give {len(pairs)} pairs of items that a user chose one after another; {LEAST} are needed",
            where=application.events.source,
        )
    write_history(place.folder, catalogue, history)
    write_text(path, "".join(_line(catalogue, *pair) for pair in pairs))
    return path


def _check_unchanged(place: Workplace, catalogue: Catalogue, history: History) -> None:
    """See that the tables are those that the folder holds: what is there stays, and would be taken for new."""
    items, events = load_history(place.folder)
    same = (list(items.ids), list(items.texts)) == (list(catalogue.ids), list(catalogue.texts))
    if not same or _events(events) != _events(history):
        raise UserError(
            "the tables have changed since this folder was begun",
            where=str(place.folder),
            hint="Choose another --output-dir, or delete this folder to build it anew.",
        )


def _events(history: History) -> set[tuple[str, int, float]]:
    users = [history.users[user] for user in history.user.tolist()]
    return set(zip(users, history.item.tolist(), history.time.tolist(), strict=True))


def next_items(history: History, within: int, most: int, seed: int) -> Ints:
    """Pairs of items: one that a user chose, and one that the same user chose soon after. Shape: pairs × 2.

    Users with long histories would make most of the pairs, so each pair's chance falls with the root of its user's
    count.
    """
    first, second, weight = [], [], []
    for chosen in history.each():
        for step in range(1, within + 1):
            first.append(chosen[:-step])
            second.append(chosen[step:])
            weight.append(np.full(max(len(chosen) - step, 0), 1 / np.sqrt(max(len(chosen), 1))))
    pairs = np.stack([np.concatenate(first), np.concatenate(second)], axis=1)
    chance = np.concatenate(weight)
    draws = np.random.default_rng([seed, 7])
    if len(pairs) <= most:
        return draws.permutation(pairs)
    return pairs[draws.choice(len(pairs), size=most, replace=False, p=chance / chance.sum())]


def _line(catalogue: Catalogue, first: int, second: int) -> str:
    row = {"query": catalogue.texts[first], "document": catalogue.texts[second]}
    return json.dumps(row, ensure_ascii=False) + "\n"
