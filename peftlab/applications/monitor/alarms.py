"""Alarms: how one begins and goes on, and what is told of it: a sentence, and the texts behind it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, select, update
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.rows import insert_new
from peftlab.applications.monitor.surges import QUIET
from peftlab.applications.monitor.tables import ALARMS, ALL_TOPICS, OUTBOX, TEXTS
from peftlab.applications.monitor.times import HOUR, shown_hour

LINKED = 20
"""Texts in a message."""
SURGE = "surge"


@dataclass(frozen=True)
class Surge:
    """An hour of a series that is too high.

    Args:
        stream: Of the series.
        topic: Of the series.
        hour: Since 1970.
        voices: Of this hour.
        expected: So many are usual.
        score: How seldom it is.
    """

    stream: str
    topic: str
    hour: int
    voices: int
    expected: float
    score: float


def raise_alarm(connection: Connection, surge: Surge, sentiment: str, channels: Iterable[str]) -> bool:
    """Begin an alarm, with a message for each channel, or let the one that is there go on.

    Returns:
        Whether one began.
    """
    hour = surge.hour
    same = (ALARMS.c.kind == SURGE, ALARMS.c.stream == surge.stream, ALARMS.c.topic == surge.topic)
    near = (ALARMS.c.last >= hour - QUIET, ALARMS.c.began <= hour + QUIET)
    going_on = connection.scalar(select(ALARMS.c.id).where(*same, *near).order_by(ALARMS.c.began).limit(1))
    if going_on is not None:
        more = {
            "last": case((ALARMS.c.last > hour, ALARMS.c.last), else_=hour),
            "voices": ALARMS.c.voices + surge.voices,
            "expected": ALARMS.c.expected + surge.expected,
        }
        connection.execute(update(ALARMS).where(ALARMS.c.id == going_on).values(**more))
        return False
    values = {
        "kind": SURGE, "stream": surge.stream, "topic": surge.topic, "began": hour, "last": hour,
        "voices": surge.voices, "expected": surge.expected, "score": surge.score, "is_seen": False,
    }  # fmt: skip
    if not insert_new(connection, ALARMS, [values]):
        return False
    alarm = connection.scalar(select(ALARMS.c.id).where(*same, ALARMS.c.began == hour))
    body = json.dumps(message(connection, {**values, "id": alarm}, sentiment))
    for channel in channels:
        insert_new(connection, OUTBOX, [{"alarm": alarm, "channel": channel, "body": body, "due": 0.0, "tries": 0}])
    return True


def add_late(connection: Connection, stream: str, topic: str, hour: int, voices: int) -> None:
    """Add voices that came late to the alarm that this hour belongs to."""
    same = (ALARMS.c.kind == SURGE, ALARMS.c.stream == stream, ALARMS.c.topic == topic)
    its = (ALARMS.c.began <= hour, ALARMS.c.last >= hour)
    connection.execute(update(ALARMS).where(*same, *its).values(voices=ALARMS.c.voices + voices))


def message(connection: Connection, alarm: Mapping[str, Any], sentiment: str) -> dict[str, Any]:
    """What is sent of an alarm: what happened, and the first texts behind it."""
    texts = [
        {"id": row.id, "text": row.text, "time": row.time}
        for row in texts_of_alarm(connection, alarm, sentiment, LINKED)
    ]
    about = "" if alarm["topic"] == ALL_TOPICS else f" about {alarm['topic']}"
    return {
        "alarm": alarm["id"],
        "kind": alarm["kind"],
        "stream": alarm["stream"],
        "topic": alarm["topic"],
        "hour": shown_hour(alarm["began"]) + " UTC",
        "voices": alarm["voices"],
        "expected": round(alarm["expected"], 2),
        "sentence": f"{alarm['stream']}: {alarm['voices']} {sentiment} voices{about} in the hour from "
        f"{shown_hour(alarm['began'])} UTC, where about {alarm['expected']:.1f} are usual.",
        "texts": texts,
        "page": f"/alarms/{alarm['id']}",
    }


def texts_of_alarm(connection: Connection, alarm: Mapping[str, Any], sentiment: str, most: int) -> Sequence[Any]:
    """The voices behind an alarm with their number of copies, the latest first; those of the hour before it too."""
    copies = TEXTS.alias("copies")
    count = select(func.count()).where(copies.c.copy_of == TEXTS.c.id).scalar_subquery()
    query = (
        select(TEXTS, count.label("copies"))
        .where(TEXTS.c.stream == alarm["stream"], TEXTS.c.sentiment == sentiment, TEXTS.c.copy_of.is_(None))
        .where(TEXTS.c.time >= (alarm["began"] - 1) * HOUR, TEXTS.c.time < (alarm["last"] + 1) * HOUR)
        .order_by(TEXTS.c.time.desc(), TEXTS.c.id.desc())
        .limit(most)
    )
    if alarm["topic"] != ALL_TOPICS:
        query = query.where(TEXTS.c.topic == alarm["topic"])
    return connection.execute(query).all()
