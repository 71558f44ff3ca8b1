"""A process that may take so long and no longer, with everything that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.1
GRACE_SECONDS = 2.0
"""Between asking a process to end and ending it."""


@dataclass(frozen=True)
class Ended:
    """How a process has ended.

    Args:
        code: Its exit code; negative: the signal.
        seconds: That it took.
        timed_out: Whether it was stopped at its bound.
        stopped: Whether it was stopped because the whole check was.
    """

    code: int
    seconds: float
    timed_out: bool
    stopped: bool


def run_bounded(
    command: Sequence[str],
    *,
    seconds: float,
    log: Path | None,
    environment: Mapping[str, str],
    folder: Path,
    stop: threading.Event,
    watch: Callable[[], None] = lambda: None,
) -> Ended:
    """Run a process and all its children to their end, or to the bound.

    Args:
        command: What to run.
        seconds: The bound.
        log: Takes what it prints; None: nothing does.
        environment: Of the process.
        folder: Its working directory.
        stop: Ends it early once it is set.
        watch: Called now and then while it runs.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        output = subprocess.DEVNULL if log is None else stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timed_out = False
        while process.poll() is None and not stop.is_set():
            timed_out = time.monotonic() - started > seconds
            if timed_out:
                break
            watch()
            time.sleep(POLL_SECONDS)
        stopped = stop.is_set() and process.poll() is None
        _end_group(process)
    return Ended(process.returncode, time.monotonic() - started, timed_out, stopped)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process if it still runs, and whatever it has left behind."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
