"""What pages and programs are shown of topics: their drift, and proposals of new ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from sqlalchemy import func, select

from peftlab.applications.monitor.baseline import DAY
from peftlab.applications.monitor.drift import EARLIER_DAYS, RECENT_DAYS, find_drift
from peftlab.applications.monitor.proposals import MOST_TEXTS, propose
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.tables import ALL_TOPICS, HOURS, IS_UNSURE, TEXTS

EXAMPLES = 5


def drift(store: Store, stream: str) -> dict[str, Any] | None:
    """The last seven days of a stream against the 28 before them; None where there are too few."""
    with store.transaction() as connection:
        end = connection.scalar(select(func.max(HOURS.c.hour)).where(HOURS.c.stream == stream))
        if end is None:
            return None
        last = int(end) // DAY
        first = last - RECENT_DAYS - EARLIER_DAYS + 1
        query = select(HOURS).where(HOURS.c.stream == stream, HOURS.c.hour >= first * DAY, HOURS.c.topic != ALL_TOPICS)
        rows = connection.execute(query).all()
    topics = sorted({row.topic for row in rows})
    counts = np.zeros((len(topics), last - first + 1))
    for row in rows:
        counts[topics.index(row.topic), row.hour // DAY - first] += row.voices
    found = find_drift(counts, topics)
    return None if found is None else asdict(found)


def proposals(store: Store, stream: str, sentiment: str) -> list[dict[str, Any]]:
    """Clusters of the latest texts of a stream whose topic is unsure."""
    query = (
        select(TEXTS.c.id, TEXTS.c.text)
        .where(TEXTS.c.stream == stream, TEXTS.c.sentiment == sentiment, IS_UNSURE)
        .order_by(TEXTS.c.time.desc(), TEXTS.c.id.desc())
        .limit(MOST_TEXTS)
    )
    with store.transaction() as connection:
        rows = connection.execute(query).all()
    return [
        {
            "words": list(each.words),
            "size": len(each.members),
            "texts": [{"id": rows[at].id, "text": rows[at].text} for at in each.members[:EXAMPLES]],
        }
        for each in propose([row.text for row in rows])
    ]
