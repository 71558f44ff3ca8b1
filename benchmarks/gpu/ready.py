"""Processes of Python that begin with their libraries loaded.

To load them takes longer than the work of a tiny step. One process loads them and does nothing else; each other is a
fork of it, with its own session, streams, working directory and variables, and can be ended like any process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ADDRESS = "PEFTLAB_CHECK_READY"
"""The variable that says where the process with the libraries listens."""
MODULE = "benchmarks.gpu.ready"
LIBRARIES = (
    "accelerate", "datasets", "peft", "pyarrow.parquet", "pytest", "sklearn.metrics", "torch.profiler",
    "transformers.trainer", "transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama",
    "peftlab.cli.app", "peftlab.preparation.loading", "peftlab.run.run", "peftlab.run.stages",
)  # fmt: skip
POLL_SECONDS = 0.02


@contextlib.contextmanager
def libraries_loaded(
    environment: Mapping[str, str], folder: Path, libraries: Sequence[str] = LIBRARIES
) -> Iterator[dict[str, str]]:
    """Keep a process that loads the libraries; the variables with which :func:`start` forks it.

    Args:
        environment: Of that process; what libraries read as they load is then the same in every fork.
        folder: Its working directory, from which it imports.
        libraries: To load.
    """
    with tempfile.TemporaryDirectory(prefix="peftlab-ready-") as own:
        address = str(Path(own) / "socket")
        command = [sys.executable, "-m", MODULE, address, *libraries]
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            while process.poll() is None and not Path(address).exists():
                time.sleep(POLL_SECONDS)
            yield {ADDRESS: address}
        finally:
            process.kill()
            process.wait()


def start(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    output: Any = None,
    new_session: bool = False,
) -> subprocess.Popen[bytes] | Fork:
    """Start a process: a fork where the variables say of what and the command is ``python -m …``, else a new one.

    Args:
        command: What to run.
        folder: The working directory; None: this process's.
        environment: All variables; None: this process's.
        stdin: As for Popen.
        output: A file for all that it prints; None: where this process prints.
        new_session: Whether its process group is its own. A fork's always is.
    """
    variables = dict(os.environ if environment is None else environment)
    if variables.get(ADDRESS) and list(command[:2]) == [sys.executable, "-m"]:
        with contextlib.suppress(ConnectionError, FileNotFoundError):  # it has ended: a new process says why
            return Fork(command[2:], folder or Path.cwd(), variables, stdin=stdin, output=output)
    return subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=stdin,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=new_session,
    )


class Fork:
    """What the check needs of Popen.

    Args:
        words: The module, and its arguments.
        folder: The working directory.
        variables: All of them.
        stdin: As for Popen.
        output: A file for all that it prints; None: where this process prints.

    Attributes:
        pid: Of the process, and of its group.
        returncode: The exit code; negative: the signal; None while it runs.
        stdin: A pipe to it, where one was asked for.

    Raises:
        ConnectionError: The process with the libraries has ended.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, variables: Mapping[str, str], *, stdin: int | None, output: Any
    ) -> None:
        self.returncode: int | None = None
        self.stdin: Any = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(variables[ADDRESS])
        with contextlib.ExitStack() as stack:
            if stdin == subprocess.PIPE:
                given, taken = os.pipe()
                stack.callback(os.close, given)
                self.stdin = os.fdopen(taken, "wb")
            else:
                given = 0 if stdin is None else stack.enter_context(Path(os.devnull).open("rb")).fileno()
            streams = [given, *((1, 2) if output is None else (output.fileno(),) * 2)]
            told = json.dumps([list(words), str(folder), dict(variables)]).encode()
            socket.send_fds(self._socket, [len(told).to_bytes(4)], streams)
            self._socket.sendall(told)
            self.pid = _receive(self._socket)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None and select.select([self._socket], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        if self.returncode is None:
            if not select.select([self._socket], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout or 0.0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens to a process that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _end(self) -> None:
        try:
            self.returncode = _receive(self._socket)
        except ConnectionError:  # whoever would tell was ended itself
            self.returncode = -signal.SIGKILL
        self._socket.close()


def _receive(connection: socket.socket) -> int:
    found = connection.recv(8, socket.MSG_WAITALL)
    if len(found) < 8:
        raise ConnectionResetError("the process with the libraries has ended")
    return int.from_bytes(found, signed=True)


def serve(address: str, libraries: Sequence[str]) -> list[str] | None:
    """Load libraries and fork; returns in each fork, with its words, and None once nobody is left to ask for one."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        for name in libraries:
            importlib.import_module(name)
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a keeper has ended
        listener.settimeout(0.5)
        while os.getppid() == parent:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                if os.fork() == 0:
                    listener.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    return _keep(connection)
    return None


def _keep(connection: socket.socket) -> list[str]:
    """Fork once more: the fork returns, and this process tells how it has ended, or ends it with whoever wants it."""
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    told = connection.recv(int.from_bytes(size), socket.MSG_WAITALL)
    words, folder, variables = json.loads(told)
    child = os.fork()
    if child == 0:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        return list(words)
    for stream in streams:
        os.close(stream)
    connection.sendall(child.to_bytes(8, signed=True))
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):
                connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, signed=True))
            os._exit(0)
        if select.select([connection], [], [], POLL_SECONDS)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os._exit(0)


if __name__ == "__main__":
    found = serve(sys.argv[1], sys.argv[2:])
    if found is not None:
        sys.argv = found
        runpy.run_module(found[0], run_name="__main__", alter_sys=True)
