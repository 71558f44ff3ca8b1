"""One run in a process of its own: memory figures start clean, and a crash costs one run.

Whatever becomes of the process, a record is left: the run's own, or one that says how the process ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from peftlab.bench.executor import Finished
from peftlab.core.config import Document, parse_yaml
from peftlab.core.devices import AUTO, visible_cards
from peftlab.core.errors import UserError
from peftlab.core.files import names_in
from peftlab.core.record import (
    ADAPTER,
    CHECKPOINTS,
    MODEL,
    PREDICTIONS_NAME,
    RECIPE_NAME,
    RECORD_NAME,
    RunRecord,
    Status,
    read_record,
    write_record,
)
from peftlab.recipe.continuation import without_folder
from peftlab.recipe.schema import Recipe, build_recipe, write_recipe
from peftlab.training.launch import PEFTLAB

KILLED_BY_KERNEL = Path("/proc/vmstat")
ERROR_LINES = 6
SECONDS_BETWEEN_LOOKS = 0.5
NOT_NEEDED = (ADAPTER, MODEL, CHECKPOINTS, PREDICTIONS_NAME)
"""Of a trial whose score is known."""


def is_done(folder: Path, recipe: Recipe, *, retry_failed: bool = False) -> bool:
    """Whether a folder holds the outcome of exactly this recipe."""
    try:
        record = read_record(folder)
    except UserError:
        return False
    if record.status == "cancelled" or (retry_failed and record.status != "success"):
        return False
    return is_same(record.recipe, recipe, source=str(folder))


def goes_on_from(folder: Path, earlier: Path) -> bool:
    """Whether what a folder holds went on from what the earlier folder holds now, as far as their records tell."""
    try:
        record, before = read_record(folder), read_record(earlier)
    except UserError:
        return True
    return record.earlier is None or record.earlier.started_at == before.started_at


def is_of_recipe(folder: Path, recipe: Recipe) -> bool:
    """Whether a folder is empty, or holds this recipe's run, finished or not."""
    path = folder / RECIPE_NAME
    if not path.exists():
        return not names_in(folder) - {".lock"}
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), source=str(path)).values
    except UserError:
        return False
    return is_same(values, recipe, source=str(path))


def is_same(values: dict[str, Any], recipe: Recipe, *, source: str) -> bool:
    """Whether written values mean the recipe, wherever its suite lies.

    Keys that a later peftlab has added stand at their defaults in both.
    """
    try:
        written = build_recipe(Document(source=source, values=values), default_name=recipe.name)
    except UserError:
        return False
    return without_folder(written.model_dump(mode="json")) == without_folder(recipe.model_dump(mode="json"))


def cards_for(workers: int, device: str, say: Callable[[str], None]) -> list[str]:
    """The cards that runs at once are spread over; it is told where there are fewer.

    Args:
        workers: Runs at once.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        say: Tells a person.
    """
    cards = visible_cards(device)
    if 0 < len(cards) < workers:
        say(
            f"{workers} runs at once share {len(cards)} GPU{'s' * (len(cards) > 1)}: memory and speed are "
            "not those of a run alone"
        )
    return cards


class Worker:
    """Runs recipes, each in a fresh process; several threads may use one worker.

    Args:
        logs: Folder for what the processes say.
        threads: How many threads each process may use; None: as many as it finds free.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        offline: Allow no network.
        program: What is started for each run, with the arguments of ``peftlab run``; None: ``peftlab run``.
        cards: Of several cards, those that the processes are spread over, as ``CUDA_VISIBLE_DEVICES`` names them.
    """

    def __init__(
        self,
        logs: Path,
        *,
        threads: int | None = None,
        device: str = AUTO,
        offline: bool = False,
        program: Sequence[str] | None = None,
        cards: Sequence[str] = (),
    ) -> None:
        self._logs, self._threads, self._device, self._offline = logs, threads, device, offline
        self._program = program or (*PEFTLAB, "run")
        self._runs_on = dict.fromkeys(cards, 0) if len(cards) > 1 else {}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopped = False

    def run(self, recipe: Recipe, folder: Path, *, goes_on: Callable[[], bool] | None = None) -> Finished:
        """Run a recipe, or go on with what an earlier process has left of it.

        Args:
            recipe: Settled: with every value filled in.
            folder: The run's.
            goes_on: Asked again and again while the run is at work; once it says no, the run is stopped.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD_NAME).unlink(missing_ok=True)
        write_recipe(recipe, folder / RECIPE_NAME)
        log = self._logs / f"{folder.name}.txt"
        kills, started, started_at = _kernel_kills(), time.monotonic(), datetime.datetime.now(datetime.UTC)
        code = self._run_process(folder, log, goes_on)
        seconds = time.monotonic() - started
        try:
            return Finished(read_record(folder), seconds)
        except UserError:
            status, error = _explain_end(code, log, out_of_memory=_kernel_kills() > kills)
            record = RunRecord(
                name=recipe.name,
                status="cancelled" if self.stopped else status,
                error=error,
                recipe=recipe.model_dump(mode="json"),
                started_at=started_at.isoformat(timespec="seconds"),
                seconds=seconds,
            )
            leave_record(record, folder)
            return Finished(record, seconds)

    def stop(self) -> None:
        """Ask all running processes to leave a record and end; they can be resumed."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                process.send_signal(signal.SIGINT)

    def _run_process(self, folder: Path, log: Path, goes_on: Callable[[], bool] | None) -> int:
        command = [*self._program, str(folder / RECIPE_NAME)]
        command += ["--output-dir", str(folder), "--resume", *(["--offline"] if self._offline else [])]
        command += [*(["--threads", str(self._threads)] if self._threads else []), "--device", self._device]
        environment = dict(os.environ) | ({"OMP_NUM_THREADS": str(self._threads)} if self._threads else {})
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output, self._card() as own:
            with self._lock:
                if self.stopped:
                    return -signal.SIGINT
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment | own,
                    start_new_session=True,  # Ctrl-C reaches the suite alone, which passes it on once
                    preexec_fn=_begin if sys.platform == "linux" else None,
                )
                self._running.add(process)
            try:
                return _wait(process, goes_on)
            finally:
                with self._lock:
                    self._running.discard(process)

    @contextlib.contextmanager
    def _card(self) -> Iterator[dict[str, str]]:
        """What tells a process to see only the card with the fewest runs."""
        if not self._runs_on:
            yield {}
            return
        with self._lock:
            card = min(self._runs_on, key=self._runs_on.__getitem__)
            self._runs_on[card] += 1
        try:
            yield {"CUDA_VISIBLE_DEVICES": card}
        finally:
            with self._lock:
                self._runs_on[card] -= 1


def _wait(process: subprocess.Popen[bytes], goes_on: Callable[[], bool] | None) -> int:
    while goes_on is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(SECONDS_BETWEEN_LOOKS)
        if not goes_on():
            process.send_signal(signal.SIGINT)  # it ends its step and leaves a record
            break
    return process.wait()


def leave_record(record: RunRecord, folder: Path) -> None:
    """Write a record for a run that could not leave one itself."""
    folder.mkdir(parents=True, exist_ok=True)
    write_record(record, folder)


def move_aside(folder: Path, to: Path) -> None:
    """Keep a run that no longer belongs to the suite, under a name with the time."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%fZ")
    to.mkdir(parents=True, exist_ok=True)
    folder.replace(to / f"{folder.name}-{stamp}")


def remove_weights(folder: Path) -> None:
    """Take away what a trial leaves that nobody needs once its score is known."""
    for name in NOT_NEEDED:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def why_failed(record: RunRecord) -> str:
    """How a run ended that is no success, in a line."""
    return f"{record.status}: {next(iter((record.error or '').splitlines()), 'no reason given')}"


def _explain_end(code: int, log: Path, *, out_of_memory: bool) -> tuple[Status, str]:
    if code == -signal.SIGKILL and out_of_memory:
        return "out_of_memory", "the kernel killed the process: the machine's memory ran out"
    if code < 0:
        return "failed", f"the process was ended by {signal.Signals(-code).name}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Error: ")]
    told = lines[starts[-1] :] if starts else lines
    text = "\n".join(told[:ERROR_LINES] if starts else told[-ERROR_LINES:]).removeprefix("Error: ")
    return "failed", text or f"the process ended with exit code {code} and said nothing"


def _kernel_kills() -> int:
    """How many processes the kernel has killed for want of memory since the machine started; 0 where it cannot tell."""
    if not KILLED_BY_KERNEL.exists():
        return 0
    for line in KILLED_BY_KERNEL.read_text(encoding="ascii").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _begin() -> None:
    """Linux ends the run when the suite's process is killed, so that no orphan goes on in the run's folder.

    A process of Ray's blocks the signals that ask a run to stop, and a shell ignores Ctrl-C for what it starts in the
    background; the run would inherit both.
    """
    assert _LIBC is not None  # noqa: S101 - only used on Linux
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
