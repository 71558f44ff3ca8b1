"""A run on a node of a Ray cluster: a process of its own there, and its folder sent back.

The node keeps the run in its cache until the suite's folder has it. So a run that is interrupted there, by Ctrl-C or by
the end of whatever had asked for it, goes on from its last checkpoint when it comes to the same node again, or to
another one with the same cache. No node writes into the suite's folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peftlab.bench.executor import Finished
from peftlab.bench.worker import Worker, is_done, is_of_recipe
from peftlab.core.config import Document
from peftlab.core.files import cache_folder, is_unfinished
from peftlab.core.record import CHECKPOINTS, read_record
from peftlab.recipe.schema import Recipe, build_recipe

LOCK_NAME = ".lock"
NOT_SENT = (CHECKPOINTS, LOCK_NAME)
LOCK_SECONDS = 20.0
"""A process whose node was lost needs so long, at most, to end."""
SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Parcel:
    """What a node sends back.

    Args:
        files: Of the run's folder, by their paths in it.
        log: What the run's process has said.
        wall_seconds: From the start of the process to its end.
        kept_in: The folder on the node, to be deleted once the files have arrived.
    """

    files: dict[str, bytes]
    log: str
    wall_seconds: float
    kept_in: str


def run_cell(
    recipe: dict[str, Any],
    *,
    name: str,
    working_directory: str,
    threads: int,
    device: str,
    offline: bool,
    program: Sequence[str] | None,
) -> Parcel:
    """Execute a run on this node.

    Args:
        recipe: As plain values.
        name: Of its folder; no other run has the same.
        working_directory: Relative paths in the recipe start there, if this node has it.
        threads: Of the run.
        device: ``cpu`` or ``cuda``.
        offline: Allow no network.
        program: See :class:`peftlab.bench.worker.Worker`.
    """
    if Path(working_directory).is_dir():
        os.chdir(working_directory)
    built = build_recipe(Document(source=f"the recipe of {name}", values=recipe), default_name=name)
    folder = _own_folder(cache_folder() / "suites", name)
    if not is_of_recipe(folder, built):  # the suite has changed since: its checkpoints are another run's
        forget_cell(str(folder))
    logs = folder.with_name(f"{folder.name}.logs")
    worker = Worker(logs, threads=threads, device=device, offline=offline, program=program)
    finished = _finished(folder, built) or _run(worker, built, folder)
    log = logs / f"{folder.name}.txt"
    return Parcel(
        files={path: (folder / path).read_bytes() for path in _paths(folder)},
        log=log.read_text(encoding="utf-8", errors="replace") if log.exists() else "",
        wall_seconds=finished.wall_seconds,
        kept_in=str(folder),
    )


def forget_cell(kept_in: str) -> None:
    """Delete what this node has kept of a run."""
    shutil.rmtree(kept_in, ignore_errors=True)
    shutil.rmtree(f"{kept_in}.logs", ignore_errors=True)


def _own_folder(parent: Path, name: str) -> Path:
    """The run's folder, or a new one where another process is at work in it: that of a node taken for lost."""
    folder = parent / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK_NAME).acquire(timeout=LOCK_SECONDS):
            return folder
    except Timeout:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))


def _finished(folder: Path, recipe: Recipe) -> Finished | None:
    """What is there already: whoever asked for it has ended before it arrived."""
    if not is_done(folder, recipe):
        return None
    record = read_record(folder)
    return Finished(record, record.seconds) if record.status == "success" else None


def _run(worker: Worker, recipe: Recipe, folder: Path) -> Finished:
    """Ray asks a task to stop by a KeyboardInterrupt in its main thread, which must not sleep in the kernel then.

    Where a shell started Ray in the background, Ctrl-C is ignored, and Ray's word would be lost.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(worker.run, recipe, folder)
        try:
            while not future.done():
                wait([future], timeout=SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt:
            worker.stop()
            raise
    return future.result()


def _paths(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path.as_posix() for path in found if path.parts[0] not in NOT_SENT and not is_unfinished(path))
