"""Ctrl-C for verbs that run many runs: what is running leaves a record, and the same command goes on from there."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import typer

from peftlab.core.reporter import tell


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Say on Ctrl-C how to go on, and exit with 1."""
    try:
        yield
    except KeyboardInterrupt:
        tell("Stopped. The same command goes on from here.")
        raise typer.Exit(1) from None


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
