"""Read the tables of a recommender, and say of each row that cannot be used which one it is."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.applications.recommend.history import Catalogue, History, Passed
from peftlab.core.application import Workplace
from peftlab.core.errors import DataError, did_you_mean
from peftlab.core.times import moment_of
from peftlab.data.other_keys import table_config, under_keys
from peftlab.data.sources import load_tables
from peftlab.data.table import Table

if TYPE_CHECKING:
    from peftlab.applications.recommend import Recommend

CLOCKS_DIFFER = 86_400.0
"""Seconds that a time may lie ahead: clocks and time zones differ."""
LATEST = 253_402_300_800.0
"""The year 10000: what is later is no time."""


def read_history(application: Recommend, place: Workplace) -> tuple[Catalogue, History]:
    """Read catalogue and events.

    Raises:
        DataError: A column is missing, or a row cannot be used and rows are not to be left out.
        SourceError: A table cannot be reached.
    """
    faults = _Faults(place, application.leave_out_faulty_rows)
    catalogue = _catalogue(application, place, faults)
    history = _events(application, place, catalogue, faults)
    faults.tell()
    return catalogue, history


class _Faults:
    """Rows that cannot be used: the first one is an error, or all are counted."""

    def __init__(self, place: Workplace, leave_out: bool) -> None:
        self._place, self._leave_out = place, leave_out
        self._counts: dict[str, list[str]] = {}

    def add(self, kind: str, message: str, table: Table, row: int) -> None:
        """A row, counted from 0."""
        where = f"{table.name}, row {row + 1}"
        if not self._leave_out:
            raise DataError(message, where=where, hint="Mend the row, or set `leave_out_faulty_rows: true`.")
        self._counts.setdefault(kind, []).append(where)

    def tell(self) -> None:
        """Say what was left out."""
        for kind, places in self._counts.items():
            left_out = "1 row was left out" if len(places) == 1 else f"{len(places)} rows were left out"
            self._place.reporter.say(f"{left_out}: {kind} (the first: {places[0]})")


def _table(place: Workplace, key: str, source: str, columns: Sequence[str]) -> Table:
    config = table_config({"source": source}, section=key)
    with under_keys(f"{key}.source"):
        table = load_tables(
            config, keep=columns, folder=place.sources, offline=place.offline, report=place.reporter.say
        )["train"]
    for column in columns:
        if column not in table.columns:
            raise DataError(f"there is no column `{column}`", where=table.name, hint=did_you_mean(column, table.names))
    if not len(table):
        raise DataError("the table has no rows", where=table.name)
    return table


def _catalogue(application: Recommend, place: Workplace, faults: _Faults) -> Catalogue:
    wanted = application.items
    table = _table(place, "items", wanted.source, [wanted.id, wanted.title, *wanted.text])
    ids: dict[str, None] = {}
    titles, texts = [], []
    for row in range(min(len(table), wanted.keep or len(table))):
        item = name_of(table.columns[wanted.id][row])
        title = _plain(table.columns[wanted.title][row])
        described = [_plain(table.columns[column][row]).replace("|", ", ") for column in wanted.text]
        if not item:
            faults.add("items without a name", "the item has no name", table, row)
        elif item in ids:
            faults.add("items that are there twice", f"the item {item!r:.40} is there twice", table, row)
        elif not title:
            faults.add("items without a text", f"the item {item!r:.40} has no text: its title is empty", table, row)
        else:
            ids[item] = None
            titles.append(title)
            texts.append(". ".join([title, *filter(None, described)]))
    if not ids:
        raise DataError("no item can be used", where=table.name)
    return Catalogue(list(ids), titles, texts)


def _events(application: Recommend, place: Workplace, catalogue: Catalogue, faults: _Faults) -> History:
    wanted = application.events
    columns = [wanted.user, wanted.item, wanted.time, *([wanted.value] if wanted.value else [])]
    table = _table(place, "events", wanted.source, columns)
    kept: dict[tuple[str, int], float] = {}
    passed: dict[tuple[str, int], float] = {}
    now = time.time()
    for row in range(len(table)):
        user, item = name_of(table.columns[wanted.user][row]), name_of(table.columns[wanted.item][row])
        given = table.columns[wanted.time][row]
        moment = seconds_of(given)
        value = _number(table.columns[wanted.value][row]) if wanted.value else wanted.least_value
        if not user:
            faults.add("events without a user", "the event has no user", table, row)
        elif item not in catalogue.positions:
            faults.add("events of unknown items", f"the item {item!r:.40} is not in the catalogue", table, row)
        elif moment is None:
            message = f"the time {given!r:.40} cannot be read: seconds since 1970, or as in 2026-03-01T12:00:00Z"
            faults.add("times that cannot be read", message, table, row)
        elif moment > now + CLOCKS_DIFFER:
            faults.add("times that lie in the future", f"the time {given!r:.40} lies in the future", table, row)
        elif value is None:
            faults.add("ratings that are no numbers", "the rating is no number", table, row)
        else:
            # A user who chose an item twice has chosen it when it was first chosen.
            key, where = (user, catalogue.positions[item]), kept if value >= wanted.least_value else passed
            where[key] = min(moment, where.get(key, math.inf))
    if not kept:
        raise DataError("no event can be used", where=table.name, hint="See `events.least_value`.")
    history = history_of([(user, item, moment) for (user, item), moment in kept.items()], len(catalogue))
    return replace(history, passed=_passed({key: moment for key, moment in passed.items() if key not in kept}, history))


def _passed(events: Mapping[tuple[str, int], float], history: History) -> Passed:
    """Of the users that chose something; of others there is no history."""
    at = {user: place for place, user in enumerate(history.users)}
    rows = sorted((at[user], moment, item) for (user, item), moment in events.items() if user in at)
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Passed(table[:, 0].astype(np.int64), table[:, 2].astype(np.int64), table[:, 1])


def history_of(events: Sequence[tuple[str, int, float]], items: int) -> History:
    """Order events by user and time; those of one moment by chance, and always alike.

    A table of days has many events of one moment. In the order of the catalogue, what is cut off as later would be what
    stands last there, such as what is new or what nobody knows.

    Args:
        events: User, place of the item, seconds since 1970.
        items: How many items there are.
    """
    users = list(dict.fromkeys(user for user, _, _ in events))
    at = {user: place for place, user in enumerate(users)}
    user = np.array([at[name] for name, _, _ in events], dtype=np.int64)
    item = np.array([place for _, place, _ in events], dtype=np.int64)
    moment = np.array([seconds for _, _, seconds in events], dtype=np.float64)
    chance = np.array([_chance(name, place) for name, place, _ in events], dtype=np.uint64)
    order = np.lexsort((item, chance, moment, user))
    return History(users, user[order], item[order], moment[order], items)


def _chance(user: str, place: int) -> int:
    digest = hashlib.blake2b(f"{user}|{place}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def seconds_of(value: Any) -> float | None:
    """A time as seconds since 1970, as :func:`peftlab.core.times.moment_of` reads it; None where that cannot be one."""
    moment = moment_of(value)
    is_number = _number(value) is not None
    return None if moment is None or moment >= LATEST or (is_number and moment < 0) else moment


def name_of(value: Any) -> str:
    """The name of a user or an item: 7, 7.0 and ``7`` are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _plain(value)


def _plain(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
