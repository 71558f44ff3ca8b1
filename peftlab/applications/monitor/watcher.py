"""Judges hours that are over: folds copies, counts voices, and begins alarms; each hour once.

All of an hour's changes are one transaction: counts, alarms, messages to send, and the mark that it is judged. A kill
at any moment leaves an hour judged or not; alarms are unique by their beginning, so two watchers make no two of one.

Texts come late too: what is fetched every hour brings all texts of an hour after its end. Every few minutes the watcher
looks for hours of the last two days that have more voices now than when they were judged, and judges them again. What
an alarm has counted already is not counted again.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from peftlab.applications.monitor.alarms import Surge, add_late, raise_alarm
from peftlab.applications.monitor.baseline import DAY, Floats, predict
from peftlab.applications.monitor.hours import by_clocks, heard_hours, late_hour, matrix_of
from peftlab.applications.monitor.rows import (
    VoicesKey,
    add_to_mark,
    add_voices,
    insert_new,
    keep_hours,
    mark,
    set_mark,
)
from peftlab.applications.monitor.settings import Destinations, Watch
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.surges import LONGEST_HISTORY, Detector, fit_detector, score
from peftlab.applications.monitor.tables import ALL_TOPICS, HOURS, MARKS, TEXTS
from peftlab.applications.monitor.times import clock_hour, hour_of, hour_of_week, zone_of
from peftlab.applications.monitor.voices import COPY_HOURS, fold

JUDGED = "judged_until"
LEAST_HISTORY = 3 * DAY
"""Hours: a stream of which fewer were heard is counted and not judged."""
GAP = 60 * DAY
"""Hours without any text that are passed over at once."""
LIVE_HOURS = 3
"""Texts not older than this come as they are written; older ones are a table that is fed."""
LATE_HOURS = 48
"""A text that comes so much later than its hour was judged is judged after all."""
LATE_EVERY = 300.0
"""Seconds between two looks for texts that came late."""
DAYS_KEPT = 4
"""Detectors of so many days are at hand: late texts are those of the days before."""
Series = dict[tuple[str, str], Counter[int]]


@dataclass(frozen=True)
class _Day:
    """Detectors of a day, by stream; each has a row for all topics and one for each."""

    start: int
    topics: Sequence[str]
    detectors: Mapping[str, Detector]


@dataclass(frozen=True)
class _Span:
    """Hours of one day that are to be judged, or again because of late texts; all before ``judged`` were, until now."""

    judged: int | None
    start: int
    stop: int
    is_late: bool = False


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
        self._zone = zone_of(watch.zone)
        self._days: dict[int, _Day] = {}
        self._looked = -LATE_EVERY

    def tick(self, now: float | None = None) -> int:
        """Judge what can be judged.

        Returns:
            How many alarms began.

        Raises:
            StorageError: The database refused; the hours are judged at the next try.
        """
        now = time.time() if now is None else now
        began = 0
        while (span := self._next_span(now)) is not None:
            began += self._work(span)
        if abs(now - self._looked) >= LATE_EVERY:
            looked = 0
            while (span := self._late_span(looked)) is not None:
                began += self._work(span)
                looked = span.stop
            self._looked = now
        return began

    def _work(self, span: _Span) -> int:
        day = self._detectors(span.start // DAY * DAY)  # takes seconds, and nothing is locked meanwhile
        with self._store.transaction() as connection:
            counted, copies = self._count(connection, span.start, span.stop)  # the same
        with self._store.transaction() as connection:
            if span.judged is None:
                is_mine = bool(insert_new(connection, MARKS, [{"name": JUDGED, "value": float(span.start)}]))
            else:
                is_mine = mark(connection, JUDGED, hold=True) == span.judged
            if not is_mine:  # another process was faster
                return 0
            self._write_copies(connection, copies)
            if not span.is_late:
                set_mark(connection, JUDGED, span.stop)
            return self._judge(connection, day, span, counted)

    def _next_span(self, now: float) -> _Span | None:
        """The hours that come next."""
        with self._store.transaction() as connection:
            latest = connection.scalar(select(func.max(TEXTS.c.hour)))
            if latest is None:
                return None
            until = hour_of(now) if hour_of(now) - latest <= LIVE_HOURS else int(latest)
            waiting = connection.scalar(select(func.min(TEXTS.c.hour)).where(TEXTS.c.sentiment.is_(None)))
            until = until if waiting is None else min(until, int(waiting))
            found = mark(connection, JUDGED)
            judged = None if found is None else int(found)
            start = judged if judged is not None else int(connection.scalar(select(func.min(TEXTS.c.hour))) or 0)
            if start > hour_of(now) + 1:  # the clock was ahead: nothing would be judged until it is as late as that
                start = hour_of(now) - 1
            following = connection.scalar(select(func.min(TEXTS.c.hour)).where(TEXTS.c.hour >= start))
        if following is not None and following - start > GAP:
            start = int(following)
        return None if start >= until else _Span(judged, start, min(until, (start // DAY + 1) * DAY))

    def _late_span(self, start: int) -> _Span | None:
        """The first hours from this one on that were judged without some of their texts."""
        with self._store.transaction() as connection:
            judged = mark(connection, JUDGED)
            if judged is None:
                return None
            stop = int(judged)
            found = late_hour(connection, self._watch.sentiment, max(start, stop - LATE_HOURS), stop)
        return None if found is None else _Span(stop, found, min(stop, (found // DAY + 1) * DAY), True)

    def _judge(self, connection: Connection, day: _Day, span: _Span, counted: Series) -> int:
        before = {stream: self._surges(connection, day, stream, span.stop) for stream in day.detectors}
        keep_hours(
            connection,
            [
                {"stream": stream, "topic": topic, "hour": hour, "voices": voices}
                for (stream, topic), hours in counted.items()
                for hour, voices in hours.items()
            ],
        )
        began = 0
        for stream in day.detectors:
            known = before[stream]
            for key, surge in self._surges(connection, day, stream, span.stop).items():
                if surge.hour < span.start:
                    continue
                if key not in known:
                    began += raise_alarm(connection, surge, self._watch.sentiment, self._send.channels())
                elif surge.voices > known[key].voices:
                    add_late(connection, stream, surge.topic, surge.hour, surge.voices - known[key].voices)
        return began

    def _surges(self, connection: Connection, day: _Day, stream: str, stop: int) -> dict[tuple[int, int], Surge]:
        """The hours of the day that are too high, as they are counted now; by topic and hour, in this order."""
        detector, topics = day.detectors[stream], day.topics
        counts = matrix_of(connection, stream, topics, day.start, stop)
        noon = day.start + DAY // 2  # most of a day on which clocks are changed is as its noon
        first = hour_of_week(clock_hour(noon, self._zone) - DAY // 2)
        ties = self._ties(stream, topics, day.start, stop)
        scores = score(counts, first, detector.baseline, ties, self._watch.least_voices)
        expected = predict(counts, first, detector.baseline).mean
        return {
            (int(row), int(column)): Surge(
                stream, topics[row], day.start + int(column), int(counts[row, column]),
                float(expected[row, column]), float(scores[row, column]),
            )
            for row, column in np.argwhere(scores < detector.threshold[:, None])
        }  # fmt: skip

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
        """Copies are voices no longer; those that another process has found meanwhile are none already."""
        written = []
        for copy in copies:
            its = update(TEXTS).where(TEXTS.c.id == copy.text, TEXTS.c.copy_of.is_(None))
            if connection.execute(its.values(copy_of=copy.original)).rowcount:
                written.append(copy.voice)
        add_voices(connection, {key: -count for key, count in Counter(written).items()})
        add_to_mark(connection, "copies", len(written))

    def _detectors(self, start: int) -> _Day:
        """Those of the day that begins at this hour, learned from the hours before it."""
        if start not in self._days:
            self._days[start] = self._learn(start)
            for old in sorted(self._days)[:-DAYS_KEPT]:
                del self._days[old]
        return self._days[start]

    def _learn(self, start: int) -> _Day:
        topics = [ALL_TOPICS, *(self._topics if self._watch.topic_false_alarms_a_month else [])]
        histories = {}
        with self._store.transaction() as connection:
            firsts = connection.execute(
                select(HOURS.c.stream, func.min(HOURS.c.hour)).where(HOURS.c.hour < start).group_by(HOURS.c.stream)
            ).all()
            heard = heard_hours(connection, start - LONGEST_HISTORY, start)
            for stream, first in firsts:
                begin = max(-(-int(first) // DAY) * DAY, start - LONGEST_HISTORY)
                told = np.flatnonzero(heard[begin - start :]) if begin < start else heard[:0]
                if len(told) >= LEAST_HISTORY:
                    begin += int(told[0]) // DAY * DAY  # what is learned from begins with a day that was heard
                    counts = matrix_of(connection, stream, topics, begin, start)
                    histories[stream] = by_clocks(counts, heard[begin - start :], begin, self._zone)
        rates = np.full(len(topics), self._watch.topic_false_alarms_a_month / max(len(self._topics), 1))
        rates[0] = self._watch.false_alarms_a_month
        found = {
            stream: fit_detector(
                counts, hour_of_week(begin), rates,
                discount=self._watch.discount, smoothing=self._watch.smoothing, least=self._watch.least_voices,
                seed=self._seed, heard=told,
            )
            for stream, (begin, counts, told) in histories.items()
        }  # fmt: skip
        return _Day(start, topics, found)

    def _ties(self, stream: str, topics: Sequence[str], start: int, stop: int) -> Floats:
        """Numbers that break ties: uniform, and always the same for an hour of a series."""
        drawn = [[_uniform(f"{self._seed}|{stream}|{topic}|{hour}") for hour in range(start, stop)] for topic in topics]
        return np.array(drawn, dtype=np.float64)


def seed_history(store: Store, hours: Sequence[tuple[str, str, int, int]], until: int) -> None:
    """Let a new store begin with counted hours; one that has any is left as it is."""
    rows = [{"stream": stream, "topic": topic, "hour": hour, "voices": voices} for stream, topic, hour, voices in hours]
    with store.transaction() as connection:
        if mark(connection, JUDGED) is not None or connection.scalar(select(TEXTS.c.id).limit(1)) is not None:
            return
        # The mark first: of two processes that open a new store, one is told here that the other has begun.
        if insert_new(connection, MARKS, [{"name": JUDGED, "value": until}]):
            insert_new(connection, HOURS, rows)


def _uniform(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
