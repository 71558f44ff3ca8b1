"""Runs that the board has started: each is `peftlab run` in a session of its own, so that it survives the board."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peftlab.core.address import TOKEN_VARIABLE
from peftlab.core.errors import UserError
from peftlab.core.files import write_text
from peftlab.core.record import RECIPE_NAME
from peftlab.training.launch import PEFTLAB

FOLDER = ".board"
LOG_LINES = 60
LOG_BYTES = 1 << 16
_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


@dataclass(frozen=True)
class Job:
    """A run that was started or taken up.

    Args:
        name: What addresses it.
        key: The run's folder below the board's.
        answers: What was typed into the form; empty where a run was taken up.
    """

    name: str
    key: str
    answers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobState:
    """How a job stands.

    Args:
        is_running: Whether its process runs; None: this board has not started it, so nothing is known.
        code: Its exit code, where it has ended.
        log: The end of what it has said.
    """

    is_running: bool | None
    code: int | None
    log: str


class Jobs:
    """Starts runs, and knows those that it has started.

    Args:
        root: The folder of the board.
        options: That every `peftlab run` gets, such as ``--offline``.
    """

    def __init__(self, root: Path, options: Sequence[str] = ()) -> None:
        self._root, self._options = root, list(options)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, settings: Sequence[str], answers: dict[str, str]) -> Job:
        """Start a new run.

        Args:
            name: Of the recipe; the folder's name begins with it.
            settings: ``key=value`` each, as ``--set`` takes them.
            answers: What was typed, to be shown again if nothing comes of it.
        """
        job = _named(lambda stamp: f"{name}-{stamp}", answers)
        return self._run(job, _set(settings))

    def resume(self, key: str, settings: Sequence[str] = ()) -> Job:
        """Take up a run that the list has given.

        Args:
            key: Of the run.
            settings: As for :meth:`start`, over those of its recipe.
        """
        job = _named(lambda _: key, {})
        return self._run(job, [str(self._root / key / RECIPE_NAME), "--resume", *_set(settings)])

    def find(self, name: str) -> Job | None:
        """The job of this name; None where there is none."""
        if not _NAME.fullmatch(name):
            return None
        try:
            values: dict[str, Any] = json.loads((self._root / FOLDER / f"{name}.json").read_text(encoding="utf-8"))
            return Job(name, str(values["key"]), dict(values["answers"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def last_of(self, key: str) -> Job | None:
        """The last that this board has started for a run; None where there is none."""
        found = (
            job for name in reversed(list(self._processes)) if (job := self.find(name)) is not None and job.key == key
        )
        return next(found, None)

    def state(self, job: Job) -> JobState:
        """How a job stands."""
        process = self._processes.get(job.name)
        code = None if process is None else process.poll()
        return JobState(None if process is None else code is None, code, self._log_of(job))

    def stop(self, job: Job) -> None:
        """Ask a job to end, as Ctrl-C does.

        Raises:
            UserError: It does not run any more, or this board has not started it.
        """
        process = self._processes.get(job.name)
        if process is None or process.poll() is not None:
            raise UserError("this does not run any more", where=job.key)
        process.send_signal(signal.SIGINT)

    def _run(self, job: Job, arguments: list[str]) -> Job:
        folder = self._root / FOLDER
        try:
            folder.mkdir(exist_ok=True)
            if folder.is_symlink():
                raise UserError("this is a link, and may lead out of the board's folder", where=str(folder))
            write_text(folder / f"{job.name}.json", json.dumps(asdict(job), ensure_ascii=False))
            command = [*PEFTLAB, "run", *arguments, "--output-dir", str(self._root / job.key)]
            # What visitors bring is none of the run's business.
            environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
            with (folder / f"{job.name}.log").open("wb") as log:
                self._processes[job.name] = subprocess.Popen(
                    [*command, *self._options],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise UserError(f"nothing can be started: {error.strerror}", where=str(folder)) from None
        return job

    def _log_of(self, job: Job) -> str:
        text = b""
        with contextlib.suppress(OSError), (self._root / FOLDER / f"{job.name}.log").open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - LOG_BYTES))
            text = log.read()
        return "\n".join(text.decode("utf-8", "replace").splitlines()[-LOG_LINES:])


def _set(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def _named(key_of: Any, answers: dict[str, str]) -> Job:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{stamp}-{secrets.token_hex(4)}"
    return Job(name, key_of(name), answers)
