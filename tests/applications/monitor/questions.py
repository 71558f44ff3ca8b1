"""What the page and its worker ask every few seconds, and a store of any size to ask it of."""

from __future__ import annotations

import time
from typing import Any

from peftlab.applications.monitor import outbox, topics, views
from peftlab.applications.monitor.rows import add_to_mark, add_voices, voices_of
from peftlab.applications.monitor.settings import Destinations, Watch
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.tables import ALARMS, HOURS, MARKS, OUTBOX, REFUSED, TEXTS
from peftlab.applications.monitor.times import HOUR
from peftlab.applications.monitor.watcher import JUDGED, Watcher

NOW = 480_000
"""Hours since 1970: the last one that is not judged."""
SEND = Destinations.model_validate({"webhook": {"url": "http://127.0.0.1:9/hook"}})


def fill(store: Store, *, days: int, an_hour: int) -> int:
    """Texts of two streams up to now, all judged but the last hour; the number of them."""
    texts, hours = [], []
    for hour in range(NOW - 24 * days, NOW):
        for stream in ("one", "two"):
            hours += [
                {"stream": stream, "topic": topic, "hour": hour, "voices": an_hour // share}
                for topic, share in (("*", 2), ("delay", 4), ("crew", 4))
            ]
            texts += [
                {
                    "name": f"{stream} {hour} {at}", "stream": stream, "time": hour * HOUR + at * 60.0, "hour": hour,
                    "text": "late again", "stored": 0.0, "sentiment": ("negative", "positive")[at % 2],
                    "sentiment_score": 0.9, "topic": ("delay", "crew")[at // 2 % 2], "topic_score": 0.9,
                    "copy_of": 1 if at % 4 == 3 else None,
                }
                for at in range(an_hour)
            ]  # fmt: skip
    alarm: dict[str, Any] = {"kind": "surge", "stream": "one", "topic": "*", "voices": 9, "expected": 1.0, "score": 0.0}
    began = range(NOW - 24 * days, NOW, 12)
    messages = {"channel": "webhook", "body": "{}", "due": 0.0, "tries": 1, "sent": 1.0}
    refused = {"reason": "no text", "given": "{}", "stored": 1.0}
    with store.transaction() as connection:
        connection.execute(TEXTS.insert(), texts)
        connection.execute(HOURS.insert(), hours)
        connection.execute(ALARMS.insert(), [{**alarm, "began": at, "last": at, "is_seen": False} for at in began])
        connection.execute(OUTBOX.insert(), [{**messages, "alarm": at} for at in began])
        connection.execute(REFUSED.insert(), [{**refused, "name": str(at)} for at in range(10 * days)])
        connection.execute(MARKS.insert().values(name=JUDGED, value=float(NOW)))
        add_voices(connection, voices_of([text for text in texts if text["copy_of"] is None]))
        add_to_mark(connection, "texts", len(texts))
        add_to_mark(connection, "copies", sum(text["copy_of"] is not None for text in texts))
        add_to_mark(connection, "refused", 10 * days)
    return len(texts)


def ask(store: Store) -> dict[str, Any]:
    """All of it; a part of the answers."""
    shown = {
        "streams": views.streams(store),
        "series": views.series(store, "negative", "one", 7 * 24).values["*"][-5:],
        "alarms": len(views.alarms(store, 20)),
        "texts": len(views.latest_texts(store, stream="one", most=20)),
        "all texts": len(views.latest_texts(store, most=20)),
        "of no topic": len(views.latest_texts(store, topic="none")),
        "of no sentiment": len(views.latest_texts(store, sentiment="none")),
        "counts": store.counts(),
        "refused": len(views.refused(store)),
        "waiting": store.waiting(64),
        "behind an alarm": len(views.alarm_texts(store, views.alarms(store, 1)[0], "negative", 20)),
        "proposals": topics.proposals(store, "one", "negative"),
        "sent": outbox.deliver(store, SEND, time.time),
    }
    watch = Watch.model_validate({"topic_false_alarms_a_month": 0})
    return {**shown, "began": Watcher(store, watch, SEND, ["delay"], 0).tick(NOW * HOUR)}
