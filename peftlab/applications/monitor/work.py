"""What a serving process does beside answering: reads waiting texts, judges hours, sends messages, deletes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from peftlab.applications.monitor.outbox import deliver
from peftlab.applications.monitor.reader import Reader
from peftlab.applications.monitor.retention import Cleaner
from peftlab.applications.monitor.settings import Destinations
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.watcher import Watcher
from peftlab.core.errors import PeftlabError
from peftlab.core.reporter import Reporter

AT_ONCE = 64
PAUSE = 0.5
"""Seconds between two looks at an empty queue."""
JUDGE_EVERY = 5.0
CLEAN_PAUSE = 60.0


class Worker:
    """Works in threads until it is stopped.

    Args:
        store: Of the texts.
        reader: Both adapters.
        watcher: Judges hours.
        send: Where alarms go.
        reporter: Is told of what fails; it is tried again.
        cleaner: Deletes what is old.
    """

    def __init__(
        self,
        store: Store,
        reader: Reader,
        watcher: Watcher,
        send: Destinations,
        reporter: Reporter,
        cleaner: Cleaner,
    ) -> None:
        self._store, self._reader, self._watcher, self._send = store, reader, watcher, send
        self._reporter, self._cleaner = reporter, cleaner
        self._stop = threading.Event()
        self.wake = threading.Event()
        turns = ((self.read, PAUSE), (self.judge, JUDGE_EVERY), (self.deliver, JUDGE_EVERY), (self.clean, CLEAN_PAUSE))
        self._threads = [threading.Thread(target=self._repeat, args=turn, daemon=True) for turn in turns]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the work at hand."""
        self._stop.set()
        self.wake.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def read(self) -> bool:
        """Read some waiting texts; whether there were any."""
        rows = self._store.waiting(AT_ONCE)
        self._store.keep_readings([at for at, _ in rows], self._reader.read([text for _, text in rows]) if rows else [])
        return bool(rows)

    def judge(self) -> bool:
        """Judge what is over; never at once again."""
        self._watcher.tick()
        return False

    def deliver(self) -> bool:
        """Send what is due; whether any was taken."""
        return bool(deliver(self._store, self._send, is_told_to_stop=self._stop.is_set))

    def clean(self) -> bool:
        """Delete what is old, if it is time to; whether there may be more."""
        return self._cleaner.tick()

    def _repeat(self, turn: Callable[[], bool], pause: float) -> None:
        told = -60.0
        while not self._stop.is_set():
            try:
                again = turn()
            except Exception as error:  # noqa: BLE001 - a thread that ended would leave the others serving as if it worked
                again = False
                if time.monotonic() - told > 60:
                    told = time.monotonic()
                    # Of a fault only its kind: texts are not put into a log.
                    said = error if isinstance(error, PeftlabError) else f"a fault, {type(error).__name__}"
                    self._reporter.say(f"trying again: {said}")
            if not again:
                (self.wake if turn == self.read else self._stop).wait(pause)
                self.wake.clear()
