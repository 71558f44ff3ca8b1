"""Several works at once, each in a thread that waits for a process of its own."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def do_at_once(works: Iterable[Callable[[], T]], *, workers: int, stop: Callable[[], None]) -> list[T]:
    """Do all works and wait for them.

    Args:
        works: What is to be done.
        workers: How many at once, at most.
        stop: Ends the processes that work, so that their threads return. It is called where a work fails or somebody
            presses Ctrl-C; works that have not begun are dropped then, and the error goes on.

    Returns:
        What each work has returned, in their order.
    """
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for work in works]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            stop()
            raise
