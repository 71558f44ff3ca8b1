"""Hours as they were counted: a stream's, those in which nothing was heard, and those to which texts came late."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import tzinfo

import numpy as np
from sqlalchemy import and_, func, select, union
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.baseline import DAY, Floats, Heard
from peftlab.applications.monitor.tables import HOURS, VOICES
from peftlab.applications.monitor.times import clock_hour

SILENCE = DAY
"""Hours without any text of any stream; so long at least is one in which nothing was heard."""
SILENCES = 20
"""And it is so many times as long as usually passes between two hours with texts: of a quiet monitor days may be."""


def matrix_of(connection: Connection, stream: str, topics: Sequence[str], start: int, stop: int) -> Floats:
    """Voices of a stream; topics × hours."""
    counts = np.zeros((len(topics), stop - start))
    places = {topic: at for at, topic in enumerate(topics)}
    query = select(HOURS).where(HOURS.c.stream == stream, HOURS.c.hour >= start, HOURS.c.hour < stop)
    for row in connection.execute(query):
        if row.topic in places:
            counts[places[row.topic], row.hour - start] = row.voices
    return counts


def heard_hours(connection: Connection, start: int, stop: int) -> Heard:
    """Which hours were heard. In a long silence of all streams it was not the world that was silent.

    A monitor that was switched off, or not fed, would else learn that nobody speaks, and take the first usual hours
    after it for a surge.
    """
    parts = (select(each.c.hour).where(each.c.hour >= start, each.c.hour < stop) for each in (VOICES, HOURS))
    there = np.array(sorted(connection.scalars(union(*parts))), dtype=np.int64) - start
    heard = np.zeros(stop - start, dtype=bool)
    if not len(there):
        return heard
    usual = float(np.median(np.diff(there))) if len(there) > 1 else 1.0
    ends = np.concatenate([[-1], there, [stop - start]])
    heard[:] = True
    for before, after in itertools.pairwise(ends):
        if after - before - 1 >= max(SILENCE, SILENCES * usual):
            heard[before + 1 : after] = False
    return heard


def by_clocks(counts: Floats, heard: Heard, start: int, zone: tzinfo) -> tuple[int, Floats, Heard]:
    """Put hours where clocks of a zone have them, so that a morning stays one when clocks are changed.

    An hour that the clocks leave out was not heard; of two that they show as one, the first counts.

    Args:
        counts: Series × hours.
        heard: Of each hour.
        start: The first hour, since 1970.
        zone: Of the clocks.

    Returns:
        The first hour as clocks count it, counts, and which hours were heard.
    """
    places = np.array([clock_hour(hour, zone) for hour in range(start, start + counts.shape[1])], dtype=np.int64)
    first = int(places[0])
    shown, at = np.unique(places - first, return_index=True)
    moved, told = np.zeros((len(counts), int(shown[-1]) + 1)), np.zeros(int(shown[-1]) + 1, dtype=bool)
    moved[:, shown], told[shown] = counts[:, at], heard[at]
    return first, moved, told


def late_hour(connection: Connection, sentiment: str, start: int, stop: int) -> int | None:
    """The first hour that has voices which were not there when it was judged; from one hour until another."""
    same = and_(
        *(VOICES.c[name] == HOURS.c[name] for name in ("stream", "topic", "hour")),
        HOURS.c.hour >= start, HOURS.c.hour < stop,  # else PostgreSQL may read all hours
    )  # fmt: skip
    query = (
        select(func.min(VOICES.c.hour))
        .select_from(VOICES.outerjoin(HOURS, same))
        .where(VOICES.c.hour >= start, VOICES.c.hour < stop, VOICES.c.sentiment == sentiment)
        .where(VOICES.c.voices > func.coalesce(HOURS.c.voices, 0))
    )
    found = connection.scalar(query)
    return None if found is None else int(found)
