"""What the service does with a message: it is stored, answered in a thread, and told to whoever listens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.exceptions import HTTPException

from peftlab.applications.support.answering import Responder, summary
from peftlab.applications.support.storage import Session, Storage
from peftlab.core.errors import PeftlabError
from peftlab.core.reporter import Reporter
from peftlab.core.threads import join_threads

MOST_WAITING, THREADS = 64, 8
SECONDS = (0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 1.5, 2.5, 5, 10, 30)


class Metrics:
    """What ``/metrics`` tells."""

    def __init__(self, storage: Storage) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("support_answers", "Answers.", ["kind"], registry=self.registry)
        self.seconds = Histogram(
            "support_answer_seconds", "From a message to its answer.", ["kind"], buckets=SECONDS, registry=self.registry
        )
        self.corrections = Counter("support_corrections", "Answers that agents called wrong.", registry=self.registry)
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
        self._room = threading.BoundedSemaphore(MOST_WAITING)

    async def stream(self, session: Session, key: str, text: str) -> AsyncIterator[dict[str, Any]]:
        """Store a message, then give events until it is answered.

        Args:
            session: Whose.
            key: The sender's own name for it.
            text: What is said.

        Raises:
            HTTPException: Too many messages wait; nothing was stored.
        """
        if not self._room.acquire(blocking=False):
            raise HTTPException(503, "too many messages wait; try again in a moment", {"Retry-After": "2"})
        events, is_new = _Events(), False
        try:
            number, is_new = await run_in_threadpool(self.storage.accept, session.id, key, text)
        finally:
            if not is_new:
                self._room.release()
        events.put({"event": "accepted", "id": number})
        if is_new:
            try:
                self._threads.submit(self._answer, session, number, text, events)
            except RuntimeError:  # there is no room for a thread; the message is stored, and goes to a person
                self._room.release()
                raise
            return events.each()
        for row in await run_in_threadpool(self.storage.messages, session.id):
            if row.answers == number:
                events.put({"event": "answer", **self.shown(row)})
        events.put(None)
        return events.each()

    def _answer(self, session: Session, number: int, text: str, events: _Events) -> None:
        began = time.monotonic()
        try:
            texts, history = self.storage.history(session.id, number)
            reply = self.responder.respond(
                text,
                history,
                lambda sentence: events.put({"event": "sentence", "text": sentence}),
                lambda entries: events.put({"event": "writing", "from": [entry.question for entry in entries]}),
            )
            seconds = time.monotonic() - began
            told = summary([*texts, text], history, reply, self._entries)
            answer = self.storage.answer(session.id, number, reply, told, seconds)
            self.metrics.answers.labels(str(reply.kind)).inc()
            self.metrics.seconds.labels(str(reply.kind)).observe(seconds)
            row = next(each for each in self.storage.messages(session.id) if each.id == answer)
            events.put({"event": "answer", **self.shown(row)})
        except Exception as error:  # noqa: BLE001 - the message is stored, and goes to a person after a while
            said = error.message if isinstance(error, PeftlabError) else type(error).__name__
            self.reporter.say(f"message {number} could not be answered: {said}")
            events.put({"event": "error", "error": "a person will answer"})
        finally:
            self._room.release()
            events.put(None)

    def shown(self, row: Any) -> dict[str, Any]:
        """A message as its customer sees it."""
        sources = [self._entries[name] for name in json.loads(row.sources) if name in self._entries]
        return {
            "id": row.id,
            "role": row.role,
            "text": row.text,
            "kind": row.kind,
            "sources": [{"question": entry.question, "answer": entry.answer} for entry in sources],
        }
