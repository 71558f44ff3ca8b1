"""Work that ends: what takes too long is given up, whatever it does.

It is for programs of others, such as a checkpoint's chat template. In the main thread a timer of the system ends them,
even within a single long sum, which lets no other thread run. In other threads, and where there is no such timer, the
work has a thread of its own, which is told to stop.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


class _TimeIsUp(BaseException):
    """Not an `Exception`, which what is to be ended may catch."""


def within(seconds: float, work: Callable[[], Value]) -> Value:
    """What the work gives; what it raises is raised.

    Args:
        seconds: Of the processor, so that a busy machine ends nothing too early; of the clock in other threads.
        work: Takes nothing.

    Raises:
        TimeoutError: It took longer.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _timed(seconds, work)
    return _apart(seconds, work)


def _timed(seconds: float, work: Callable[[], Value]) -> Value:
    def end(*_: Any) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
        try:
            return work()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _TimeIsUp:
        raise TimeoutError(f"not done within {seconds:g} seconds") from None
    finally:
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL if before is None else before)


def _apart(seconds: float, work: Callable[[], Value]) -> Value:
    done: list[Value] = []
    failures: list[BaseException] = []

    def do() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised below, in the thread that asked
            failures.append(error)

    thread = threading.Thread(target=do, name="within a time", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        stop = ctypes.pythonapi.PyThreadState_SetAsyncExc
        stop(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TimeIsUp))
        raise TimeoutError(f"not done within {seconds:g} seconds")
    if failures:
        raise failures[0]
    return done[0]
