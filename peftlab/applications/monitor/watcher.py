"""Judges hours that are over: folds copies, counts voices, and begins alarms; each hour once.

All of an hour's changes are one transaction: counts, alarms, messages to send, and the mark that it is judged. A kill
at any moment leaves an hour judged or not; alarms are unique by their beginning, so two watchers make no two of one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.alarms import message
from peftlab.applications.monitor.baseline import DAY, predict
from peftlab.applications.monitor.rows import VoicesKey, add_to_mark, add_voices, insert_new, mark, set_mark
from peftlab.applications.monitor.settings import Destinations, Watch
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.surges import LONGEST_HISTORY, QUIET, Detector, fit_detector, score
from peftlab.applications.monitor.tables import ALARMS, ALL_TOPICS, HOURS, MARKS, OUTBOX, TEXTS
from peftlab.applications.monitor.times import hour_of, hour_of_week
from peftlab.applications.monitor.voices import COPY_HOURS, fold

JUDGED = "judged_until"
LEAST_HISTORY = 3 * DAY
"""Hours: a stream that is newer is counted and not judged."""
GAP = 60 * DAY
"""Hours without any text that are passed over at once."""
LIVE_HOURS = 3
"""Texts not older than this come as they are written; older ones are a table that is fed."""
SURGE = "surge"
Series = dict[tuple[str, str], Counter[int]]


@dataclass(frozen=True)
class _Day:
    """Detectors of a day, by stream; each has a row for all topics and one for each."""

    start: int
    topics: Sequence[str]
    detectors: Mapping[str, Detector]


@dataclass(frozen=True)
class _Copy:
    """A text that copies another, by their numbers, and the voice that it was counted as until now."""

    text: int
    original: int
    voice: VoicesKey


class Watcher:
    """Judges the texts of a store.

    Args:
        store: Of the texts.
        watch: What raises an alarm.
        send: Where alarms go.
        topics: All that there are.
        seed: Of the calibration, and of how ties are broken.
    """

    def __init__(self, store: Store, watch: Watch, send: Destinations, topics: Sequence[str], seed: int) -> None:
        self._store, self._watch, self._send, self._topics, self._seed = store, watch, send, list(topics), seed
        self._day: _Day | None = None

    def tick(self, now: float | None = None) -> int:
        """Judge what can be judged.

        Returns:
            How many alarms began.

        Raises:
            StorageError: The database refused; the hours are judged at the next try.
        """
        now = time.time() if now is None else now
        began = 0
        while True:
            with self._store.transaction() as connection:
                span = self._next_span(connection, now)
            if span is None:
                return began
            judged, start, stop = span
            day = self._detectors(start // DAY * DAY)  # takes seconds, and nothing is locked meanwhile
            with self._store.transaction() as connection:
                counted, copies = self._count(connection, start, stop)  # the same
            with self._store.transaction() as connection:
                if judged is None:
                    is_mine = bool(insert_new(connection, MARKS, [{"name": JUDGED, "value": float(start)}]))
                else:
                    is_mine = mark(connection, JUDGED, hold=True) == judged
                if is_mine:  # else another process was faster
                    self._write_copies(connection, copies)
                    began += self._judge(connection, day, start, stop, counted)

    def _next_span(self, connection: Connection, now: float) -> tuple[float | None, int, int] | None:
        """Until which hour all is judged, and the hours of one day that come next: from and until."""
        latest = connection.scalar(select(func.max(TEXTS.c.hour)))
        if latest is None:
            return None
        until = hour_of(now) if hour_of(now) - latest <= LIVE_HOURS else int(latest)
        waiting = connection.scalar(select(func.min(TEXTS.c.hour)).where(TEXTS.c.sentiment.is_(None)))
        until = until if waiting is None else min(until, int(waiting))
        judged = mark(connection, JUDGED)
        start = int(judged) if judged is not None else int(connection.scalar(select(func.min(TEXTS.c.hour))) or 0)
        if start > hour_of(now) + 1:  # the clock was ahead: nothing would be judged until it is as late as that again
            start = hour_of(now) - 1
        following = connection.scalar(select(func.min(TEXTS.c.hour)).where(TEXTS.c.hour >= start))
        if following is not None and following - start > GAP:
            start = int(following)
        if start >= until:
            return None
        return judged, start, min(until, (start // DAY + 1) * DAY)

    def _judge(self, connection: Connection, day: _Day, start: int, stop: int, counted: Series) -> int:
        rows = [
            {"stream": stream, "topic": topic, "hour": hour, "voices": voices}
            for (stream, topic), hours in counted.items()
            for hour, voices in hours.items()
        ]
        insert_new(connection, HOURS, rows)
        set_mark(connection, JUDGED, stop)
        began = 0
        topics, least = day.topics, self._watch.least_voices
        for stream, detector in day.detectors.items():
            counts = _matrix(connection, stream, topics, day.start, stop)
            first = hour_of_week(day.start)
            scores = score(counts, first, detector.baseline, self._ties(stream, topics, day.start, stop), least)
            expected = predict(counts, first, detector.baseline).mean
            for row, column in np.argwhere(scores < detector.threshold[:, None]):
                hour = day.start + int(column)
                if hour >= start:
                    began += self._alarm(
                        connection, stream, topics[row], hour, int(counts[row, column]),
                        float(expected[row, column]), float(scores[row, column]),
                    )  # fmt: skip
        return began

    def _count(self, connection: Connection, start: int, stop: int) -> tuple[Series, list[_Copy]]:
        """Voices of each series and hour, and the texts that are copies; nothing is written."""
        columns = (TEXTS.c.id, TEXTS.c.stream, TEXTS.c.hour, TEXTS.c.text, TEXTS.c.topic)
        query = (
            select(*columns)
            .where(TEXTS.c.hour >= start - COPY_HOURS, TEXTS.c.hour < stop)
            .where(TEXTS.c.sentiment == self._watch.sentiment, TEXTS.c.copy_of.is_(None))
            .order_by(TEXTS.c.time, TEXTS.c.id)
        )
        by_stream = defaultdict(list)
        for found in connection.execute(query):
            by_stream[found.stream].append(found)
        counted: Series = defaultdict(Counter)
        copies: list[_Copy] = []
        for stream, rows in by_stream.items():
            known = [row for row in rows if row.hour < start]
            new = rows[len(known) :]
            for row, original in zip(new, fold([row.text for row in known], [row.text for row in new]), strict=True):
                if original is not None:
                    key = (stream, row.hour, self._watch.sentiment, row.topic)
                    copies.append(_Copy(row.id, rows[original].id, key))
                    continue
                counted[stream, ALL_TOPICS][row.hour] += 1
                counted[stream, row.topic][row.hour] += 1
        return counted, copies

    @staticmethod
    def _write_copies(connection: Connection, copies: Sequence[_Copy]) -> None:
        """Copies are voices no longer."""
        for copy in copies:
            connection.execute(update(TEXTS).where(TEXTS.c.id == copy.text).values(copy_of=copy.original))
        add_voices(connection, {key: -count for key, count in Counter(copy.voice for copy in copies).items()})
        add_to_mark(connection, "copies", len(copies))

    def _detectors(self, start: int) -> _Day:
        """Those of the day that begins at this hour, learned from the hours before it."""
        if self._day is not None and self._day.start == start:
            return self._day
        topics = [ALL_TOPICS, *(self._topics if self._watch.topic_false_alarms_a_month else [])]
        histories = {}
        with self._store.transaction() as connection:
            firsts = connection.execute(
                select(HOURS.c.stream, func.min(HOURS.c.hour)).where(HOURS.c.hour < start).group_by(HOURS.c.stream)
            ).all()
            for stream, first in firsts:
                begin = max(-(-int(first) // DAY) * DAY, start - LONGEST_HISTORY)
                if start - begin >= LEAST_HISTORY:
                    histories[stream] = begin, _matrix(connection, stream, topics, begin, start)
        rates = np.full(len(topics), self._watch.topic_false_alarms_a_month / max(len(self._topics), 1))
        rates[0] = self._watch.false_alarms_a_month
        found = {
            stream: fit_detector(
                counts, hour_of_week(begin), rates,
                discount=self._watch.discount, smoothing=self._watch.smoothing, least=self._watch.least_voices,
                seed=self._seed,
            )
            for stream, (begin, counts) in histories.items()
        }  # fmt: skip
        self._day = _Day(start, topics, found)
        return self._day

    def _ties(self, stream: str, topics: Sequence[str], start: int, stop: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Numbers that break ties: uniform, and always the same for an hour of a series."""
        drawn = [[_uniform(f"{self._seed}|{stream}|{topic}|{hour}") for hour in range(start, stop)] for topic in topics]
        return np.array(drawn, dtype=np.float64)

    def _alarm(
        self, connection: Connection, stream: str, topic: str, hour: int, voices: int, expected: float, found: float
    ) -> int:
        """Begin an alarm, or let the one that is there go on."""
        same = (ALARMS.c.kind == SURGE, ALARMS.c.stream == stream, ALARMS.c.topic == topic)
        going_on = connection.scalar(select(ALARMS.c.id).where(*same, ALARMS.c.last >= hour - QUIET).limit(1))
        if going_on is not None:
            connection.execute(
                update(ALARMS)
                .where(ALARMS.c.id == going_on)
                .values(last=hour, voices=ALARMS.c.voices + voices, expected=ALARMS.c.expected + expected)
            )
            return 0
        values = {
            "kind": SURGE, "stream": stream, "topic": topic, "began": hour, "last": hour, "voices": voices,
            "expected": expected, "score": found, "is_seen": False,
        }  # fmt: skip
        if not insert_new(connection, ALARMS, [values]):
            return 0
        alarm = connection.scalar(select(ALARMS.c.id).where(*same, ALARMS.c.began == hour))
        body = message(connection, {**values, "id": alarm}, self._watch.sentiment)
        for channel in self._send.channels():
            insert_new(
                connection, OUTBOX,
                [{"alarm": alarm, "channel": channel, "body": json.dumps(body), "due": 0.0, "tries": 0}],
            )  # fmt: skip
        return 1


def seed_history(store: Store, hours: Sequence[tuple[str, str, int, int]], until: int) -> None:
    """Let a new store begin with counted hours; one that has any is left as it is."""
    rows = [{"stream": stream, "topic": topic, "hour": hour, "voices": voices} for stream, topic, hour, voices in hours]
    with store.transaction() as connection:
        if mark(connection, JUDGED) is not None or connection.scalar(select(TEXTS.c.id).limit(1)) is not None:
            return
        # The mark first: of two processes that open a new store, one is told here that the other has begun.
        if insert_new(connection, MARKS, [{"name": JUDGED, "value": until}]):
            insert_new(connection, HOURS, rows)


def _matrix(
    connection: Connection, stream: str, topics: Sequence[str], start: int, stop: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Topics × hours of a stream."""
    counts = np.zeros((len(topics), stop - start))
    places = {topic: at for at, topic in enumerate(topics)}
    query = select(HOURS).where(HOURS.c.stream == stream, HOURS.c.hour >= start, HOURS.c.hour < stop)
    for row in connection.execute(query):
        if row.topic in places:
            counts[places[row.topic], row.hour - start] = row.voices
    return counts


def _uniform(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
