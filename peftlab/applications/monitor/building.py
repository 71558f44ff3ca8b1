"""What ``app build`` makes beside the two adapters: the counted hours that the first baseline is learned from."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from peftlab.applications.monitor.posts import Labelled, read_labelled
from peftlab.applications.monitor.reader import Reader
from peftlab.applications.monitor.tables import ALL_TOPICS
from peftlab.applications.monitor.times import hour_of
from peftlab.applications.monitor.voices import are_copies
from peftlab.core.application import Workplace
from peftlab.core.devices import choose_device
from peftlab.core.errors import UserError
from peftlab.core.files import write_text

if TYPE_CHECKING:
    from peftlab.applications.monitor.application import Monitor

HISTORY_NAME = "history.json"


def open_reader(place: Workplace) -> Reader:
    """Both adapters of a built application."""
    return Reader(dict(place.runs), offline=place.offline, device=choose_device(place.device))


def build(monitor: Monitor, place: Workplace) -> None:
    """See that the parts fit, and count the hours of the texts that were learned from, by their own labels.

    Raises:
        UserError: The sentiment that is watched is none that the adapter knows.
    """
    reader = open_reader(place)
    watched = monitor.watch.sentiment
    if watched not in reader.labels("sentiment"):
        raise UserError(
            f"`{watched}` is no sentiment that the adapter knows",
            where="watch.sentiment",
            hint=f"It knows {', '.join(reader.labels('sentiment'))}.",
        )
    hours, until = history(read_labelled(place, "learned"), watched)
    if monitor.posts.time is None:
        place.reporter.say("The table has no times, so they were made: series and alarms of these texts mean nothing.")
    write_text(
        place.folder / HISTORY_NAME,
        json.dumps({"topics": list(reader.labels("topic")), "until": until, "hours": hours}) + "\n",
    )


def history(rows: list[Labelled], watched: str) -> tuple[list[tuple[str, str, int, int]], int]:
    """Voices by stream, topic and hour, copies folded as the watcher does; and the hour until which they go."""
    counts: Counter[tuple[str, str, int]] = Counter()
    chosen = sorted((row for row in rows if row.sentiment == watched), key=lambda row: row.time)
    for stream in {row.stream for row in chosen}:
        own = [row for row in chosen if row.stream == stream]
        hours = [hour_of(row.time) for row in own]
        for row, hour, is_copy in zip(own, hours, are_copies([row.text for row in own], hours), strict=True):
            if is_copy:
                continue
            counts[stream, ALL_TOPICS, hour] += 1
            if row.topic:
                counts[stream, row.topic, hour] += 1
    until = max(hour_of(row.time) for row in rows) + 1
    return [(*key, count) for key, count in sorted(counts.items())], until
