"""Dynamic batching: texts of many requests wait a moment for one another and go through the model together.

Everything here runs in the event loop's thread; batches are computed by workers, each a thread. Two batches at once,
each on half of the cores, take less time than one after the other on all of them: threads that share the products of
one small batch mostly wait for each other. What changes the models waits until no batch is computed.

Texts that are to be written join those that are being written, a token of each at a step. Nothing else is computed
during a step, as a model that writes is switched to one adapter; between two steps there is room for a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from peftlab.serving.batch_choice import choose_batch
from peftlab.serving.card_trouble import CardFailedError
from peftlab.serving.host import Answer, WorkItem
from peftlab.serving.serving_config import Batching

Compute = Callable[[Sequence[WorkItem]], Sequence[Answer]]
Write = Callable[[Sequence[WorkItem]], Sequence[tuple[WorkItem, Any]]]
"""Takes texts that are to be written, writes a token of each that is there, and gives back what has ended."""


class QueueFullError(Exception):
    """The queue holds as much as it may.

    Args:
        retry_after: Seconds after which there is likely to be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


class ClosingError(Exception):
    """The service is shutting down and takes nothing new."""


@dataclass(frozen=True)
class _Waiting:
    item: WorkItem
    answer: asyncio.Future[Any]
    since: float

    @property
    def length(self) -> int:
        return self.item.hosted.tuned.task.length(self.item.example)


class Batcher:
    """Turns single texts into batches.

    Args:
        compute: Answers a batch of texts with one ``batch_key``; by several threads at once.
        write: Goes on writing by a token, never while anything else is computed.
        settings: Size and waiting time, and how many batches are computed at once.
        max_queue: Texts that may wait.
        on_batch: Is told the size of each batch, and its seconds; a step of writing is one.

    Attributes:
        accepted: Texts taken so far.
        failure: Why nothing can be computed any more; None: it can.
    """

    def __init__(
        self,
        compute: Compute,
        write: Write,
        settings: Batching,
        *,
        max_queue: int,
        on_batch: Callable[[int, float], None],
    ) -> None:
        self._compute, self._write = compute, write
        self._settings, self._max_queue, self._on_batch = settings, max_queue, on_batch
        self._queue: deque[_Waiting] = deque()
        self._prompts: deque[_Waiting] = deque()
        self._written: dict[int, _Waiting] = {}
        self._writing_seconds = 0.0
        self._changed = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=settings.workers, thread_name_prefix="model")
        self._free = asyncio.Semaphore(settings.workers)
        self._turn = asyncio.Lock()
        self._computing: set[asyncio.Task[None]] = set()
        self._pending: dict[str, int] = {}
        self._seconds_per_text = 0.02
        self._closing = False
        self.accepted = 0
        self.failure: CardFailedError | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def waiting(self) -> int:
        """Texts in the queue that somebody still waits for."""
        return sum(not waiting.answer.done() for waiting in (*self._queue, *self._prompts))

    @property
    def is_closing(self) -> bool:
        """Whether nothing new is taken."""
        return self._closing

    def submit(self, items: Sequence[WorkItem]) -> list[asyncio.Future[Any]]:
        """Accept all texts of a request, or none.

        Raises:
            QueueFullError: There is no room for them.
            ClosingError: The service is shutting down.
        """
        if self._closing:
            raise ClosingError
        self._drop_cancelled()
        there = len(self._queue) + len(self._prompts)
        if there + len(items) > self._max_queue:
            raise QueueFullError(max(1, math.ceil(there * self._seconds_per_text)))
        now, loop = time.monotonic(), asyncio.get_running_loop()
        answers = []
        for item in items:
            answer: asyncio.Future[Any] = loop.create_future()
            self._pending[item.hosted.name] = self._pending.get(item.hosted.name, 0) + 1
            answer.add_done_callback(functools.partial(self._done, item))
            (self._queue if item.writing is None else self._prompts).append(_Waiting(item, answer, now))
            answers.append(answer)
        self.accepted += len(items)
        self._changed.set()
        return answers

    async def idle(self, name: str) -> None:
        """Return when no text of this model is on its way."""
        while self._pending.get(name, 0):
            await asyncio.sleep(0.01)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run something while no batch is computed."""
        async with self._all_workers():
            return await self._in_thread(function, *arguments)

    async def close(self) -> None:
        """Finish what was accepted, and stop."""
        self._closing = True
        self._changed.set()
        if self._task is not None:
            await self._task
        self._executor.shutdown()

    async def _run(self) -> None:
        while True:
            self._drop_cancelled()
            if self._prompts or self._written:
                await self._write_on()
            elif not self._queue:
                if self._closing:
                    break
                self._changed.clear()
                await self._changed.wait()
                continue
            if not self._queue:
                continue
            await self._free.acquire()
            await self._gather()
            batch = self._take()
            if not batch:
                self._free.release()
                continue
            task = asyncio.create_task(self._compute_batch(batch))
            self._computing.add(task)
            task.add_done_callback(self._finished)
        await asyncio.gather(*self._computing)

    async def _write_on(self) -> None:
        """A step of writing; those that wait for it join first, as long as there is room."""
        async with self._all_workers():
            self._drop_cancelled()
            newcomers: list[WorkItem] = []
            while self._prompts and len(self._written) < self._settings.max_batch:
                waiting = self._prompts.popleft()
                self._written[id(waiting.item)] = waiting
                newcomers.append(waiting.item)
            gone = [key for key, waiting in self._written.items() if waiting.answer.done()]
            for key in gone:
                self._abandon(self._written[key].item)
            started = time.monotonic()
            try:
                ended = await self._in_thread(self._write, newcomers)  # those that have gone are taken out there
            except Exception as error:  # noqa: BLE001 - as of a batch
                ended = [(waiting.item, error) for waiting in self._written.values()]
            seconds = time.monotonic() - started
        self._on_batch(len(self._written), seconds)
        self._writing_seconds += seconds
        for item, text in ended:
            waiting_for = self._written.pop(id(item), None)
            if waiting_for is not None:  # else it was given up at an earlier step, while its turn had not come
                self._give(waiting_for, text)
        for key in gone:
            self._written.pop(key, None)
        if ended:
            self._count(self._writing_seconds / len(ended))
            self._writing_seconds = 0.0

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._computing.discard(task)
        self._free.release()

    @contextlib.asynccontextmanager
    async def _all_workers(self) -> AsyncIterator[None]:
        async with self._turn, contextlib.AsyncExitStack() as held:  # two that held half of them would wait forever
            for _ in range(self._settings.workers):
                await held.enter_async_context(self._free)
            yield

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def _gather(self) -> None:
        """Wait until there is a full batch, or the oldest text has waited long enough."""
        if not self._queue:  # whoever asked has gone while there was no free worker
            return
        deadline = self._queue[0].since + self._settings.max_wait_seconds
        while len(self._queue) < self._settings.max_batch and not self._closing:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        """The oldest text, and those that go well with it."""
        self._drop_cancelled()
        if not self._queue:
            return []
        oldest = self._queue[0]
        fitting = [waiting for waiting in self._queue if waiting.item.batch_key == oldest.item.batch_key]
        places = choose_batch(
            [waiting.length for waiting in fitting],
            most=self._settings.max_batch,
            free_padding=self._settings.free_padding,
        )
        batch = [fitting[place] for place in places]
        taken = {id(waiting) for waiting in batch}
        self._queue = deque(waiting for waiting in self._queue if id(waiting) not in taken)
        return batch

    async def _compute_batch(self, batch: list[_Waiting]) -> None:
        started = time.monotonic()
        try:
            predictions = await self._in_thread(self._compute, [waiting.item for waiting in batch])
            answers = list(zip(batch, predictions, strict=True))
        except Exception as error:  # noqa: BLE001 - whoever asked must hear of it, and the others must go on
            for waiting in batch:
                self._give(waiting, error)
            return
        seconds = time.monotonic() - started
        self._count(seconds / (len(batch) * self._settings.workers))
        self._on_batch(len(batch), seconds)
        for waiting, prediction in answers:
            self._give(waiting, prediction)

    def _count(self, seconds_per_text: float) -> None:
        self._seconds_per_text = 0.9 * self._seconds_per_text + 0.1 * seconds_per_text

    def _give(self, waiting: _Waiting, answer: Any) -> None:
        if isinstance(answer, CardFailedError):
            self.failure = answer
        if waiting.answer.done():
            return
        if isinstance(answer, Exception):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set_result(answer)

    def _drop_cancelled(self) -> None:
        """Texts whose client has gone, or whose time is over."""
        for queue in (self._queue, self._prompts):
            if any(waiting.answer.done() for waiting in queue):
                left = [waiting for waiting in queue if not waiting.answer.done()]
                queue.clear()
                queue.extend(left)

    def _done(self, item: WorkItem, answer: asyncio.Future[Any]) -> None:
        self._pending[item.hosted.name] -= 1
        if answer.cancelled():
            self._abandon(item)

    @staticmethod
    def _abandon(item: WorkItem) -> None:
        """Nobody waits for it any more; the loop tells so only in its next round, which may be after a step."""
        if item.writing is not None:
            item.writing.abandoned.set()
