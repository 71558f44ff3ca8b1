"""What the service does with a message: it is stored, answered in a thread, and told to whoever listens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as CounterMetric
from starlette.exceptions import HTTPException

from peftlab.applications.support.answering import Responder, summary
from peftlab.applications.support.company import AGENT
from peftlab.applications.support.storage import Session, Storage
from peftlab.applications.support.turns import understand
from peftlab.core.errors import PeftlabError
from peftlab.core.reporter import Reporter
from peftlab.core.threads import join_threads

MOST_WAITING, MOST_OF_ONE, THREADS = 64, 4, 8
"""So many messages are answered or wait for it; so many of one conversation."""
SECONDS = (0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 1.5, 2.5, 5, 10, 30)


class Metrics:
    """What ``/metrics`` tells."""

    def __init__(self, storage: Storage) -> None:
        self.registry = CollectorRegistry()
        self.answers = CounterMetric("support_answers", "Answers.", ["kind"], registry=self.registry)
        self.seconds = Histogram(
            "support_answer_seconds", "From a message to its answer.", ["kind"], buckets=SECONDS, registry=self.registry
        )
        self.corrections = CounterMetric(
            "support_corrections", "Answers that agents called wrong.", registry=self.registry
        )
        waiting = Gauge("support_waiting", "Conversations that wait for a person.", registry=self.registry)
        waiting.set_function(storage.overview.waiting)


class _Events:
    """What a thread tells a stream. Whoever waits for it holds no thread: the desk needs some while customers wait."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def put(self, event: dict[str, Any] | None) -> None:
        """Tell something, or that this was all; from any thread."""
        with contextlib.suppress(RuntimeError):  # the service has ended, and nobody listens; the answer is stored
            self._loop.call_soon_threadsafe(self._told.put_nowait, event)

    async def each(self) -> AsyncIterator[dict[str, Any]]:
        """All of it, as it comes."""
        while (event := await self._told.get()) is not None:
            yield event


class _Room:
    """Who may wait for an answer; one conversation does not take the places of all others."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), Counter[str]()

    def enter(self, conversation: str) -> None:
        """Take a place.

        Raises:
            HTTPException: There is none.
        """
        with self._lock:
            if self._inside[conversation] >= MOST_OF_ONE:
                raise HTTPException(429, "your last messages are being answered; try again then", {"Retry-After": "2"})
            if self._inside.total() >= MOST_WAITING:
                raise HTTPException(503, "too many messages wait; try again in a moment", {"Retry-After": "2"})
            self._inside[conversation] += 1

    def leave(self, conversation: str) -> None:
        """Give it back."""
        with self._lock:
            self._inside[conversation] -= 1
            if not self._inside[conversation]:
                del self._inside[conversation]


class Desk:
    """Answers messages in threads; an answer is finished and stored also when nobody listens any more.

    Args:
        responder: Answers.
        storage: Keeps.
        reporter: Is told of faults.
    """

    def __init__(self, responder: Responder, storage: Storage, reporter: Reporter) -> None:
        self.responder, self.storage, self.reporter = responder, storage, reporter
        self.metrics = Metrics(storage)
        self._entries = {entry.id: entry for entry in responder.company.entries}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="answer", initializer=join_threads)
        self._room = _Room()

    async def stream(
        self, session: Session, key: str, text: str, about: int | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Store a message, then give events until it is answered.

        Args:
            session: Whose.
            key: The sender's own name for it.
            text: What is said.
            about: The answer that it is said of; None: the last one.

        Raises:
            HTTPException: Too many messages wait; nothing was stored.
        """
        self._room.enter(session.id)
        events, is_new = _Events(), False
        try:
            number, is_new = await run_in_threadpool(self.storage.accept, session.id, key, text)
        finally:
            if not is_new:
                self._room.leave(session.id)
        events.put({"event": "accepted", "id": number})
        if is_new:
            try:
                self._threads.submit(self._answer, session, number, text, about, events)
            except RuntimeError:  # there is no room for a thread; the message is stored, and goes to a person
                self._room.leave(session.id)
                raise
            return events.each()
        for row in await run_in_threadpool(self.storage.messages, session.id, number):
            if row.answers == number:
                events.put({"event": "answer", **self.shown(row)})
        events.put(None)
        return events.each()

    def _answer(self, session: Session, number: int, text: str, about: int | None, events: _Events) -> None:
        began = time.monotonic()
        try:
            past = self.storage.past(session.id, number, about)
            if past.given is not None and understand(text, past.exchanges).complaints:
                self.storage.rate(session.id, past.given, helped=False)  # said in words, it counts like the button
            replies = self.responder.answers(
                text,
                past.exchanges,
                lambda sentence: events.put({"event": "sentence", "text": sentence}),
                lambda entries: events.put({"event": "writing", "from": [entry.question for entry in entries]}),
            )
            seconds = time.monotonic() - began
            told = summary(past.first, past.exchanges, replies, self._entries)
            rows = self.storage.answer(session.id, number, replies, told, seconds)
            for row in rows:
                if row.role != AGENT:  # else a person was quicker
                    self.metrics.answers.labels(row.kind).inc()
                    self.metrics.seconds.labels(row.kind).observe(seconds)
                events.put({"event": "answer", **self.shown(row)})
        except Exception as error:  # noqa: BLE001 - the message is stored, and goes to a person after a while
            said = error.message if isinstance(error, PeftlabError) else type(error).__name__
            self.reporter.say(f"message {number} could not be answered: {said}")
            events.put({"event": "error", "error": "a person will answer"})
        finally:
            self._room.leave(session.id)
            events.put(None)

    def shown(self, row: Any) -> dict[str, Any]:
        """A message as its customer sees it."""
        sources = [self._entries[name] for name in json.loads(row.sources) if name in self._entries]
        return {
            "id": row.id,
            "role": row.role,
            "text": row.text,
            "kind": row.kind,
            "answers": row.answers,
            "question": row.question or None,
            "helped": row.helped,
            "sources": [{"question": entry.question, "answer": entry.answer} for entry in sources],
        }
