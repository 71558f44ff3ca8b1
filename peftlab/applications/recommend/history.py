"""A catalogue and what users chose from it, as arrays; and how both are cut by time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from peftlab.core.files import atomic_file, write_text

if TYPE_CHECKING:
    from peftlab.applications.recommend import Split

CATALOGUE_NAME = "catalogue.json"
EVENTS_NAME = "events.npz"
TRAIN_SHARE = 0.8
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Catalogue:
    """The items.

    Args:
        ids: As events name them.
        titles: For people.
        texts: What the text tower reads: the title, and what describes the item.
    """

    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def positions(self) -> dict[str, int]:
        """The place of each id."""
        return {item: at for at, item in enumerate(self.ids)}


@dataclass(frozen=True)
class Passed:
    """What users met and did not choose, such as what they rated low: it teaches no taste, and is not shown again.

    Args:
        user: Of each event the place in the history's users, rising.
        item: Of each event the place in the catalogue.
        time: Of each event, in seconds since 1970.
    """

    user: Ints
    item: Ints
    time: NDArray[np.float64]


def nothing_passed() -> Passed:
    """Of a table without ratings."""
    return Passed(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True)
class History:
    """What users chose: events in the order of users, and of times within a user; of one moment in any order.

    Args:
        users: Names of the users.
        user: Of each event the place in ``users``.
        item: Of each event the place in the catalogue.
        time: Of each event, in seconds since 1970.
        items: How many items there are.
        passed: What was met and not chosen.
    """

    users: Sequence[str]
    user: Ints
    item: Ints
    time: NDArray[np.float64]
    items: int
    passed: Passed = field(default_factory=nothing_passed)

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def starts(self) -> Ints:
        """Where each user's events start; one more at the end."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1))

    def of(self, user: int) -> Ints:
        """A user's items, the oldest first."""
        return self.item[self.starts[user] : self.starts[user + 1]]

    def times_of(self, user: int) -> NDArray[np.float64]:
        """When a user chose them."""
        return self.time[self.starts[user] : self.starts[user + 1]]

    def each(self) -> list[Ints]:
        """The items of each user, the oldest first."""
        return [self.of(user) for user in range(len(self.users))]

    def passed_of(self, user: int) -> Ints:
        """What a user met and did not choose, whenever."""
        start, stop = np.searchsorted(self.passed.user, (user, user + 1))
        return self.passed.item[start:stop]

    def passed_each(self) -> list[Ints]:
        """The same of each user, up to the last choice that is here: what came later is not known yet."""
        last = np.full(len(self.users), -np.inf)
        np.maximum.at(last, self.user, self.time)
        known = self.passed.time <= last[self.passed.user]
        starts = np.searchsorted(self.passed.user[known], np.arange(1, len(self.users)))
        return list(np.split(self.passed.item[known], starts)) if len(self.users) else []

    def keep(self, mask: NDArray[np.bool_]) -> History:
        """Some of the events; all users stay."""
        return replace(self, user=self.user[mask], item=self.item[mask], time=self.time[mask])

    def cut(self, share: float = TRAIN_SHARE) -> tuple[History, History]:
        """The first events of each user, and the later ones. No event of a user is in both parts."""
        counts = np.diff(self.starts)
        rank = np.arange(len(self)) - self.starts[self.user]
        early = rank < np.floor(counts * share + 1e-9)[self.user]
        return self.keep(early), self.keep(~early)

    def cut_by(self, split: Split, share: float = TRAIN_SHARE) -> tuple[History, History]:
        """The training events, and those that are to be foretold."""
        if split == "temporal_user":
            return self.cut(share)
        early = self.time < self.moment(share)
        return self.keep(early), self.keep(~early)

    def moment(self, share: float = TRAIN_SHARE) -> float:
        """Before it this share of the events is over; fewer, where several events are of one moment."""
        return float(np.sort(self.time)[int(len(self) * share + 1e-9)])

    @cached_property
    def is_active(self) -> NDArray[np.bool_]:
        """Of each user whether there is any event."""
        return np.diff(self.starts) > 0

    @cached_property
    def matrix(self) -> Any:
        """Users × items, 1 where a user chose an item."""
        shape = (len(self.users), self.items)
        found = scipy.sparse.csr_matrix((np.ones(len(self), np.float32), (self.user, self.item)), shape=shape)
        found.data[:] = 1
        return found

    @cached_property
    def met(self) -> Any:
        """Users × items, 1 where a user chose an item, or had met it before the last choice."""
        passed = self.passed_each()
        user = np.repeat(np.arange(len(passed)), [len(each) for each in passed])
        item = np.concatenate([np.empty(0, np.int64), *passed])
        shape = (len(self.users), self.items)
        found = scipy.sparse.csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=shape)
        return (self.matrix + found).tocsr()

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """How many users chose each item."""
        return np.asarray(self.matrix.sum(axis=0), dtype=np.float64).ravel()


def hidden_items(history: History, share: float, seed: int) -> NDArray[np.bool_]:
    """Items that are kept from the text tower, to be judged as new ones: a share of those that were ever chosen."""
    known = np.flatnonzero(history.popularity > 0)
    drawn = np.random.default_rng([seed, 25]).choice(known, size=round(share * len(known)), replace=False)
    hidden = np.zeros(history.items, dtype=bool)
    hidden[drawn] = True
    return hidden


def write_history(folder: Path, catalogue: Catalogue, history: History) -> None:
    """Write both into an application's folder."""
    values = {"ids": catalogue.ids, "titles": catalogue.titles, "texts": catalogue.texts, "users": history.users}
    write_text(folder / CATALOGUE_NAME, json.dumps({key: list(each) for key, each in values.items()}))
    with atomic_file(folder / EVENTS_NAME) as path, path.open("wb") as file:
        passed = {f"passed_{name}": values for name, values in vars(history.passed).items()}
        np.savez(file, user=history.user, item=history.item, time=history.time, **passed)


def load_history(folder: Path) -> tuple[Catalogue, History]:
    """What :func:`write_history` wrote."""
    values = json.loads((folder / CATALOGUE_NAME).read_text(encoding="utf-8"))
    catalogue = Catalogue(values["ids"], values["titles"], values["texts"])
    with np.load(folder / EVENTS_NAME, allow_pickle=False) as found:
        names = ("passed_user", "passed_item", "passed_time")
        passed = Passed(*(found[name] for name in names))
        history = History(values["users"], found["user"], found["item"], found["time"], len(catalogue), passed)
    return catalogue, history
