"""What happens while a recommender is served: events, and lists that were shown with the chance of each place."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy
from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.exc import IntegrityError

from peftlab.applications.recommend.counterfactual import Floats, chances_of
from peftlab.assembly.database import Database

VERSION = 1
TABLES = MetaData()
EVENTS = Table(
    "recommend_events",
    TABLES,
    Column("id", String(64), primary_key=True),
    Column("user", String(200), nullable=False, index=True),
    Column("item", String(200), nullable=False),
    Column("time", Float, nullable=False),
    Column("list", String(64), ForeignKey("recommend_lists.id")),
)
LISTS = Table(
    "recommend_lists",
    TABLES,
    Column("id", String(64), primary_key=True),
    Column("user", String(200), nullable=False),
    Column("time", Float, nullable=False),
    Column("temperature", Float),  # null: nothing was drawn
    Column("pool", Text, nullable=False),  # items and scores of all that could have been drawn, as JSON
)
SHOWN = Table(
    "recommend_shown",
    TABLES,
    Column("list", String(64), ForeignKey("recommend_lists.id"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("item", String(200), nullable=False),
    Column("chance", Float, nullable=False),
)
Index("recommend_events_of_list", EVENTS.c.list, EVENTS.c.item)
DRAWN = LISTS.c.temperature.is_not(None)
Index("recommend_lists_drawn", LISTS.c.time, sqlite_where=DRAWN, postgresql_where=DRAWN)


@dataclass(frozen=True)
class Event:
    """Somebody chose an item.

    Args:
        id: Given by the sender, so that an event that is sent twice counts once.
        user: Who.
        item: What.
        time: When, in seconds since 1970.
        list: The list that it was chosen from.
    """

    id: str
    user: str
    item: str
    time: float
    list: str | None = None


@dataclass(frozen=True)
class Logged:
    """Lists that were drawn, as arrays.

    Args:
        old: Lists × places: the logged chances; 1 where a list has no such place.
        new: Lists × places: the chances under another temperature; the same.
        rewards: Lists × places: 1 where the item was chosen.
        users: Who saw each list; of one for a text alone, a name that no other list has.
    """

    old: Floats
    new: Floats
    rewards: Floats
    users: Sequence[str]


class Store:
    """The tables of one recommender.

    Args:
        url: SQLAlchemy's address.

    Raises:
        UserError: The database is another application's, or another version's.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, TABLES, owner="recommend", version=VERSION)

    def add(self, events: Sequence[Event]) -> int:
        """Keep all events, or none; those that are there already stay as they are.

        Returns:
            How many are new.

        Raises:
            StorageError: The database refused.
        """
        if not events:
            return 0
        try:
            return self._add(events)
        except IntegrityError:  # another process has added one of them meanwhile
            return self._add(events)

    def _add(self, events: Sequence[Event]) -> int:
        by_id = {event.id: event for event in events}
        with self._database.transaction() as connection:
            there = connection.execute(sqlalchemy.select(EVENTS.c.id).where(EVENTS.c.id.in_(by_id))).scalars()
            for known in there:
                del by_id[known]
            if by_id:
                connection.execute(EVENTS.insert(), [vars(event) for event in by_id.values()])
        return len(by_id)

    def items_of(self, user: str) -> list[tuple[str, float]]:
        """What a user chose, the oldest first: items and times."""
        query = sqlalchemy.select(EVENTS.c.item, EVENTS.c.time).where(EVENTS.c.user == user)
        query = query.order_by(EVENTS.c.time, EVENTS.c.id)  # of the same moment always in one order
        with self._database.transaction() as connection:
            return [(row.item, row.time) for row in connection.execute(query)]

    def has_list(self, name: str) -> bool:
        """Whether a list was shown."""
        with self._database.transaction() as connection:
            return connection.execute(sqlalchemy.select(LISTS.c.id).where(LISTS.c.id == name)).first() is not None

    def show(
        self,
        user: str,
        temperature: float | None,
        pool: Sequence[tuple[str, float]],
        shown: Sequence[tuple[str, float]],
    ) -> str:
        """Log a list before it is shown.

        Args:
            user: To whom; empty for a text alone.
            temperature: Of the draw; None: nothing was drawn.
            pool: Items and scores of all that could have been drawn.
            shown: Items and the chance of each, given those above.

        Returns:
            Its name.
        """
        name = uuid.uuid4().hex
        rows = [
            {"list": name, "place": place, "item": item, "chance": chance}
            for place, (item, chance) in enumerate(shown, start=1)
        ]
        values = {"id": name, "user": user, "time": time.time(), "temperature": temperature}
        with self._database.transaction() as connection:
            connection.execute(LISTS.insert().values(**values, pool=json.dumps(list(pool))))
            if rows:
                connection.execute(SHOWN.insert(), rows)
        return name

    def counts(self) -> dict[str, int]:
        """How many events and lists there are."""
        with self._database.transaction() as connection:
            found = {}
            for name, table in (("events", EVENTS), ("lists", LISTS)):
                query = sqlalchemy.select(sqlalchemy.func.count()).select_from(table)
                found[name] = int(connection.execute(query).scalar_one())
            return found

    def logged(self, temperature: float, most: int = 20_000) -> Logged | None:
        """The last lists that were drawn, and their chances under another temperature; None: there are none.

        A list that is shorter than others has earned nothing below its end, whatever the policy.
        """
        with self._database.transaction() as connection:
            last = sqlalchemy.select(LISTS).where(DRAWN)
            last = last.order_by(LISTS.c.time.desc(), LISTS.c.id).limit(most)
            lists = connection.execute(last).all()
            rows: dict[str, list[Any]] = {each.id: [] for each in lists}
            names = sqlalchemy.select(last.subquery().c.id)
            query = sqlalchemy.select(SHOWN).where(SHOWN.c.list.in_(names))
            for row in connection.execute(query.order_by(SHOWN.c.place)):
                if row.list in rows:  # else it was shown since the lists were read
                    rows[row.list].append(row)
            query = sqlalchemy.select(EVENTS.c.list, EVENTS.c.item).where(EVENTS.c.list.in_(names))
            chosen = {(row.list, row.item) for row in connection.execute(query)}
        lists = [each for each in lists if rows[each.id]]
        if not lists:
            return None
        shape = len(lists), max(len(rows[each.id]) for each in lists)
        old, new, rewards = np.ones(shape), np.ones(shape), np.zeros(shape)
        for at, each in enumerate(lists):
            shown, pool = rows[each.id], json.loads(each.pool)
            places = {item: place for place, (item, _) in enumerate(pool)}
            scores = np.array([score for _, score in pool])
            its = at, slice(len(shown))
            old[its] = [row.chance for row in shown]
            new[its] = chances_of(scores, [places[row.item] for row in shown], temperature)
            rewards[its] = [(each.id, row.item) in chosen for row in shown]
        return Logged(old, new, rewards, [f"user {each.user}" if each.user else f"list {each.id}" for each in lists])
