"""What pages and programs are shown: series, alarms, texts. All of it is read from the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from sqlalchemy import Column, Select, func, select

from peftlab.applications.monitor.alarms import texts_of_alarm
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.tables import ALARMS, ALL_TOPICS, HOURS, OUTBOX, REFUSED, TEXTS, VOICES
from peftlab.applications.monitor.times import hour_of, shown_hour
from peftlab.figures.lines import Curve, CurveAxes, draw_curves

MOST_CURVES = 6


@dataclass(frozen=True)
class SeriesView:
    """Texts of the watched sentiment by hour, copies left out.

    Args:
        start: Hours since 1970 of the first value.
        values: By topic, one an hour.
    """

    start: int
    values: dict[str, list[int]]


def streams(store: Store) -> list[str]:
    """All that texts have spoken of."""
    with store.transaction() as connection:
        return sorted({name for table in (TEXTS, HOURS) for name in connection.scalars(_different(table.c.stream))})


def _different(column: Column[Any]) -> Select[Any]:
    """The different values of a column that an index begins with: a step for each, where DISTINCT reads all rows."""
    steps = select(func.min(column).label("value")).cte("steps", recursive=True)
    following = select(func.min(column)).where(column > steps.c.value).scalar_subquery()
    steps = steps.union_all(select(following).where(steps.c.value.is_not(None)))
    return select(steps.c.value).where(steps.c.value.is_not(None))


def series(store: Store, sentiment: str, stream: str, hours: int) -> SeriesView:
    """The last hours of a stream, by topic; those that are not judged yet too."""
    with store.transaction() as connection:
        latest = connection.scalar(select(func.max(TEXTS.c.time)).where(TEXTS.c.stream == stream))
        judged = connection.scalar(select(func.max(HOURS.c.hour)).where(HOURS.c.stream == stream))
        end = max(0 if latest is None else hour_of(latest), int(judged or 0))
        start = end - hours + 1
        known = (
            select(HOURS.c.topic, HOURS.c.hour, HOURS.c.voices)
            .where(HOURS.c.stream == stream, HOURS.c.hour >= start)
        )  # fmt: skip
        counted = {(row.topic, row.hour): row.voices for row in connection.execute(known)}
        own = (
            select(VOICES.c.topic, VOICES.c.hour, VOICES.c.voices)
            .where(VOICES.c.stream == stream, VOICES.c.hour >= start, VOICES.c.sentiment == sentiment)
            .where(VOICES.c.voices > 0)
        )  # fmt: skip
        later: dict[tuple[str, int], int] = {}
        for row in connection.execute(own):
            later[row.topic, row.hour] = row.voices
            later[ALL_TOPICS, row.hour] = later.get((ALL_TOPICS, row.hour), 0) + row.voices
    for key, voices in later.items():
        counted[key] = max(counted.get(key, 0), voices)
    topics = sorted({topic for topic, _ in counted})
    return SeriesView(start, {topic: [counted.get((topic, at), 0) for at in range(start, end + 1)] for topic in topics})


def draw_series(view: SeriesView, title: str) -> Markup:
    """The figure: all topics together, and the largest ones."""
    shown = sorted(view.values, key=lambda topic: (topic != ALL_TOPICS, -sum(view.values[topic])))[:MOST_CURVES]
    if not shown:
        return Markup("")
    curves = [
        Curve(
            at, "all" if topic == ALL_TOPICS else topic,
            [(float(view.start + hour), float(value)) for hour, value in enumerate(view.values[topic])],
        )
        for at, topic in enumerate(shown)
    ]  # fmt: skip
    form = lambda hour: shown_hour(int(hour))[5:]  # noqa: E731
    return draw_curves(curves, CurveAxes(title, "hour (UTC)", "voices an hour", form, lambda value: f"{value:g}"))


def alarms(store: Store, most: int = 50, number: int | None = None) -> list[dict[str, Any]]:
    """The latest alarms, or one of them."""
    query = select(ALARMS).order_by(ALARMS.c.began.desc(), ALARMS.c.id.desc()).limit(most)
    if number is not None:
        query = query.where(ALARMS.c.id == number)
    with store.transaction() as connection:
        return [
            {**row._mapping, "hour": shown_hour(row.began), "until": shown_hour(row.last + 1)}
            for row in connection.execute(query)
        ]


def alarm_texts(store: Store, alarm: dict[str, Any], sentiment: str, most: int = 200) -> list[dict[str, Any]]:
    """The voices behind an alarm."""
    with store.transaction() as connection:
        return [_text(row) | {"copies": row.copies} for row in texts_of_alarm(connection, alarm, sentiment, most)]


def messages(store: Store, alarm: int) -> list[dict[str, Any]]:
    """What was sent of an alarm, or is still to be."""
    with store.transaction() as connection:
        rows = connection.execute(select(OUTBOX).where(OUTBOX.c.alarm == alarm)).all()
    return [{key: row._mapping[key] for key in ("channel", "tries", "sent", "error")} for row in rows]


def latest_texts(
    store: Store, *, stream: str | None = None, topic: str | None = None, sentiment: str | None = None, most: int = 50
) -> list[dict[str, Any]]:
    """The latest texts, by their own time."""
    query = select(TEXTS).order_by(TEXTS.c.time.desc(), TEXTS.c.id.desc()).limit(most)
    for column, value in ((TEXTS.c.stream, stream), (TEXTS.c.topic, topic), (TEXTS.c.sentiment, sentiment)):
        if value:
            query = query.where(column == value)
    with store.transaction() as connection:
        return [_text(row) for row in connection.execute(query)]


def refused(store: Store, most: int = 50) -> list[dict[str, Any]]:
    """The latest of what could not be taken."""
    with store.transaction() as connection:
        rows = connection.execute(select(REFUSED).order_by(REFUSED.c.stored.desc()).limit(most)).all()
    return [dict(row._mapping) for row in rows]


def _text(row: Any) -> dict[str, Any]:
    kept = ("id", "name", "stream", "time", "text", "sentiment", "sentiment_score", "topic", "topic_score", "copy_of")
    return {key: row._mapping[key] for key in kept} | {"hour": shown_hour(row.hour)}
