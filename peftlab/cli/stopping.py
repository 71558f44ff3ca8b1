"""Ctrl-C for verbs that run many runs: what is running leaves a record, and the same command goes on from there."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Let Ctrl-C say how to go on; the verb tells it, and exits with 1."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("The same command goes on from here.") from None


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work in good order, also where a shell has started it with Ctrl-C ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
