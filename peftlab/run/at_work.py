"""Which process works in a run's folder, so that others can see that it goes on, and ask it to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peftlab.core.errors import UserError

LOCK_NAME = ".lock"
MOST_PROCESSES = 1 << 31
"""No process has such a number. To signal 0 or one below it would reach whole groups of them."""


@dataclass(frozen=True)
class AtWork:
    """What a folder's lock tells.

    Args:
        is_known: Whether it tells anything: the lock of another machine says nothing.
        process: That works there now.
    """

    is_known: bool
    process: int | None = None


@contextlib.contextmanager
def signed(lock: Path) -> Iterator[None]:
    """While entered, a lock that this process holds names the process."""
    lock.write_text(f"{socket.gethostname()} {os.getpid()}\n", encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may have been taken away, since nothing came of the run
            lock.write_text("", encoding="utf-8")


def at_work(folder: Path) -> AtWork:
    """Who works in a run's folder."""
    try:
        host, process = (folder / LOCK_NAME).read_text(encoding="utf-8").split()
        number = int(process)
    except (OSError, ValueError):
        return AtWork(False)
    if host != socket.gethostname() or not 0 < number < MOST_PROCESSES:
        return AtWork(False)
    return AtWork(True, number if _is_alive(number) and _is_held(folder / LOCK_NAME) else None)


def ask_to_stop(folder: Path) -> None:
    """Ask the run in a folder to stop as Ctrl-C does: it leaves a record, and can be resumed.

    Raises:
        UserError: No process is known to work there, or it is another user's.
    """
    process = at_work(folder).process
    if process is None:
        raise UserError("no process of this machine is known to work on this run", where=str(folder))
    try:
        os.kill(process, signal.SIGINT)
    except (ProcessLookupError, PermissionError) as error:
        raise UserError(f"the run cannot be stopped: {error.strerror}", where=str(folder)) from None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _is_held(lock: Path) -> bool:
    """Whether a process holds the lock. Asked only where one of that number lives: numbers are used again."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    with contextlib.suppress(OSError), lock.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
