"""``peftlab run --processes N``: starts the processes on this machine, and sees that all end when one does."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO

from peftlab.core.reporter import tell
from peftlab.training.launch import LAUNCHER, PEFTLAB, STORE_FILE
from peftlab.training.sealing import KEY

GRACE = 30.0
"""Seconds that the other processes have to end by themselves when one has failed."""
LAST_LINES = 20


def run_processes(arguments: Sequence[str], count: int, *, threads: int | None) -> int:
    """Run ``peftlab`` in several processes on this machine.

    Args:
        arguments: Of each process.
        count: How many.
        threads: That each computes with; None: as the environment says.

    Returns:
        The exit code: of the first process, or 1 where another one has ended the run.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening, tempfile.TemporaryDirectory(prefix="peftlab-") as folder:
        key = secrets.token_hex(32)
        errors = [open(f"{folder}/{rank}", "w+b") for rank in range(count)]  # noqa: PTH123, SIM115 - closed below
        processes: list[subprocess.Popen[bytes]] = []

        def forward(number: int, _frame: FrameType | None) -> None:
            _signal(processes, number)

        # The processes are in groups of their own: what the terminal sends comes here, and from here once to each.
        previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for rank in range(count):
                processes.append(_start(arguments, rank, count, listening, threads, errors[rank], key))
            listening.close()
            failed = _wait(processes)
        finally:
            _signal(processes, signal.SIGKILL)
            for process in processes:
                process.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)
        code = _outcome([process.returncode for process in processes], failed, errors)
        for file in errors:
            file.close()
        return code


def _start(
    arguments: Sequence[str],
    rank: int,
    count: int,
    listening: socket.socket,
    threads: int | None,
    errors: IO[bytes],
    key: str,
) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(listening.getsockname()[1]),
        LAUNCHER: str(os.getpid()),
        KEY: key,
    }
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    is_first = rank == 0
    if is_first:
        environment[STORE_FILE] = str(listening.fileno())
    return subprocess.Popen(
        [*PEFTLAB, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if is_first else subprocess.DEVNULL,
        stderr=None if is_first else errors,
        pass_fds=(listening.fileno(),) if is_first else (),
        process_group=0,
    )


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Until all have ended; when one has failed, or the first one is done, the others have a while for it.

    Returns:
        The number of the process that failed first; None: none has.
    """
    deadline: float | None = None
    failed: int | None = None
    while True:
        codes = [process.poll() for process in processes]
        if failed is None:
            failed = next((rank for rank, code in enumerate(codes) if code), None)
        if None not in codes:
            return failed
        if deadline is None and (failed is not None or codes[0] is not None):
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            return failed
        time.sleep(0.05)


def _signal(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _outcome(codes: Sequence[int], failed: int | None, errors: Sequence[IO[bytes]]) -> int:
    """The exit code of all; what the first process could not tell any more is told."""
    if failed is None:
        return 0
    if codes[0] <= 0:
        code, is_done = codes[failed], codes[0] == 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        rest = ", when the run was already over" if is_done else ", and the others with it"
        tell(f"Error: process {failed} of {len(codes)} {how}{rest}")
        if failed:
            errors[failed].seek(0)
            for line in errors[failed].read().decode(errors="replace").splitlines()[-LAST_LINES:]:
                tell(f"  {line}")
        if not is_done:
            tell("  The same command with --resume goes on from the last checkpoint.")
    return codes[0] if codes[0] > 0 else 1
