"""What is told of an alarm: a sentence, and the texts behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.tables import ALL_TOPICS, TEXTS
from peftlab.applications.monitor.times import HOUR, shown_hour

LINKED = 20
"""Texts in a message."""


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
