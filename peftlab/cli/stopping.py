"""Ctrl-C, and other signals that end a verb: what is half-written goes, and what is running leaves a record."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator


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
    with _as_ctrl_c((signal.SIGINT, signal.SIGTERM)):
        yield


@contextlib.contextmanager
def ended_in_good_order() -> Iterator[None]:
    """What ends a program at once by default acts as Ctrl-C does: `kill`, a terminal that goes; not what is ignored."""
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    with _as_ctrl_c([number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]):
        yield


@contextlib.contextmanager
def _as_ctrl_c(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    owner = os.getpid()

    def stop(number: int, _frame: object) -> None:
        if os.getpid() != owner:  # a library's forked child ends as it would without a verb
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def came_of_ctrl_c(error: BaseException | None) -> bool:
    """Whether an error is what a library has made of Ctrl-C."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
