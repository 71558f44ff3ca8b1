"""`peftlab` in processes of their own that need not import the libraries, which takes five seconds.

Each is a fork of a process that has imported them and done nothing else. It has its own number, streams, working
directory and variables, and can be interrupted and killed. What depends on a fresh interpreter needs `python -m peftlab`:
what is imported when, and the variables that Python and OpenMP read as they start.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

from tests.patience import PATIENCE

REGISTERED = ("methods", "metrics", "regularizers", "tasks")
"""Packages of built-ins, which every run imports when it first asks a registry; plugins are looked for only then."""
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "accelerate", "datasets", "peft", "pyarrow.parquet", "pytest", "sklearn.metrics", "torch", "transformers",
        "transformers.models.bert.modeling_bert", "transformers.models.gpt2.modeling_gpt2",
        "peftlab.cli.app", "peftlab.run.run", "peftlab.run.stages",
        *(
            f"{package}.{module.name}"
            for package in map("peftlab.{}".format, REGISTERED)
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
            if not module.name.startswith("_")
        ),
    ]
)  # fmt: skip
AT_FIRST = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""The variables of the tests before one of them changed any: the process that is forked lives longer than such a test. Its
streams are buffered, as most users' are."""
_lock = threading.Lock()
"""Two threads that look after the same process would both read its exit code from one pipe."""


class Fork:
    """What tests need of `subprocess.Popen`.

    Args:
        arguments: Of `peftlab`.
        folder: The working directory.
        stdout: A file that is open.
        stderr: Likewise.
        environment: All variables; None: those of this process.
        main: `module:function` of another program than `peftlab`.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        *,
        folder: Path,
        stdout: IO[Any] | int,
        stderr: IO[Any] | int,
        environment: Mapping[str, str] | None = None,
        main: str = "peftlab.cli.app:main",
    ) -> None:
        words = [str(word) for word in arguments]
        streams = [_Stream(file if isinstance(file, int) else file.fileno()) for file in (stdout, stderr)]
        variables = dict(os.environ if environment is None else environment)
        # The end of these tests does not wait for a daemon.
        self._process = FORKS.Process(target=_main, args=(main, words, folder, variables, *streams), daemon=True)
        with _lock:
            _start_server()
            self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        with _lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("peftlab", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens to a process that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _start_server() -> None:
    """Start the process that is forked, if it does not run yet; another module may have been hidden from this one."""
    now = dict(os.environ)
    _set_variables(AT_FIRST)
    try:
        forkserver.ensure_running()
    finally:
        _set_variables(now)


def _set_variables(variables: Mapping[str, str]) -> None:
    if dict(os.environ) != variables:
        os.environ.clear()
        os.environ.update(variables)


def run_forked(
    *arguments: object, folder: Path, timeout: float = PATIENCE, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `peftlab` to its end; what it has said."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        fork = Fork(arguments, folder=folder, stdout=output, stderr=errors, environment=environment)
        try:
            code = fork.wait(timeout)
        finally:
            fork.kill()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(["peftlab"], code, output.read(), errors.read())


class _Stream:
    """An open file on its way to another process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[..., int], tuple[Any]]:
        return _arrive, (DupFd(self.number),)


def _arrive(number: Any) -> int:
    return int(number.detach())


def _main(program: str, words: list[str], folder: Path, variables: dict[str, str], stdout: int, stderr: int) -> None:
    gc.freeze()  # as after the tests' own imports
    for number, standard in ((stdout, 1), (stderr, 2)):
        os.dup2(number, standard)
    for number in {stdout, stderr}:
        os.close(number)
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # it may have children
    _set_variables(variables)
    sys.path[:0] = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    os.chdir(folder)
    sys.argv = ["peftlab", *words]
    module, _, name = program.partition(":")
    main = getattr(importlib.import_module(module), name)
    try:
        main()
    finally:
        _flush()


def _flush() -> None:
    """As Python does when it ends: what cannot be written is told, and the exit code is 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except OSError as error:
            sys.stderr.write(f"Exception ignored in: {stream!r}\n{type(error).__name__}: {error}\n")
            sys.exit(120)
