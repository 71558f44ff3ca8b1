"""One process at a time in a folder, by a lock that the system takes away from a process that has ended."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from peftlab.core.errors import UserError

NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def alone_in(folder: Path, name: str, *, busy: str) -> Iterator[None]:
    """Keep other processes out of a folder.

    Args:
        folder: That is there.
        name: Of the lock's file in it.
        busy: What is told where another process has the lock.

    Raises:
        UserError: Another process has it, it is a link, or nothing can be written in the folder.
    """
    from filelock import FileLock, Timeout  # not needed to validate, or to list

    if (folder / name).is_symlink():  # of a folder from somebody else: what it leads to would be emptied
        raise UserError(
            "the lock of this folder is a link, and may lead out of it", where=str(folder / name), hint="Delete it."
        )
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(busy, where=str(folder)) from None
    except OSError as error:
        if error.errno not in NO_RIGHTS:
            raise
        raise UserError(
            f"nothing can be written in this folder: {error.strerror}",
            where=str(folder),
            hint="Change its rights, or choose another place.",
        ) from None
    try:
        yield
    finally:
        lock.release()
