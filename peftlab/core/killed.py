"""Telling what is being written from what a killed process has left.

A temporary file or folder has a lock as long as its process lives: the system takes it away however the process ends.
Where the system has no such locks, or a file system none, nothing is told to be dead, and it stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def being_written(make: Callable[[], Path]) -> Iterator[Path]:
    """Make a temporary file or folder that :func:`dead` tells to be alive while the block lasts.

    Args:
        make: Makes one, under a new name at each call.
    """
    with contextlib.ExitStack() as stack:
        path = make()
        # Another process may have looked before the lock was there, and may have taken it for dead.
        while stack.enter_context(_lock(path)) is False or not path.exists():
            path = make()
        yield path


@contextlib.contextmanager
def dead(path: Path) -> Iterator[bool]:
    """Whether no process writes this file or folder any more; nobody can begin to while the block lasts."""
    with _lock(path) as is_free:
        yield is_free is True


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool | None]:
    """Hold the lock; False where another has it, None where there are no locks."""
    if fcntl is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        yield None
        return
    try:
        yield _take(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
