"""What the command line prints: errors and progress.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TextIO

from peftlab.cli.json_object import print_error
from peftlab.core.errors import PeftlabError, first_line
from peftlab.core.files import as_os_error
from peftlab.core.plugins import fault_of
from peftlab.core.reporter import PlainReporter, Silent, tell
from peftlab.training.launch import is_first_process

READER_LEFT = 128 + 13
"""What a shell says of a program that SIGPIPE has ended, as `head` ends the one before it."""
WRONG_PLACES = (errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of a place that the user has named, and in which nothing can be done: another one is needed."""
MORE_MEMORY = "`nvidia-smi` shows what else holds a card's memory; --device cpu computes in the machine's, more slowly."
PLACES = (*WRONG_PLACES, errno.EIO)
"""Errors that are the place's, not the program's."""


def exit_code_of(error: BaseException) -> int:
    """2 where the user's input is wrong, a place without rights included; else 1."""
    if isinstance(error, PeftlabError):
        return error.exit_code
    is_wrong_place = isinstance(error, OSError) and error.errno in WRONG_PLACES and error.filename
    return 2 if is_wrong_place or isinstance(error, PermissionError) else 1


def show_error(error: BaseException, *, as_json: bool = False) -> int:
    """Print an error to standard error (and with ``as_json`` as an object to standard output).

    Returns:
        The exit code.
    """
    error = as_os_error(error)
    exit_code, text = exit_code_of(error), str(error)
    if isinstance(error, BrokenPipeError) and reader_has_left():
        return READER_LEFT
    if isinstance(error, PeftlabError):
        pass
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = (
            f"the disk is full: {error.filename or error.strerror}\n  Free some space; nothing half-written was kept."
        )
    elif isinstance(error, OSError) and error.errno in PLACES and error.filename:
        text = f"{error.strerror}: {error.filename}\n  Choose another place."
    elif isinstance(error, FileNotFoundError) and error.filename is None:  # of a path that begins nowhere
        text = "the working directory is not there any more\n  Change to a folder that is there."
    elif _is_out_of_memory(error):
        text = f"memory ran out: {first_line(error)}\n  {MORE_MEMORY}"
    elif isinstance(error, PermissionError):
        text = f"no permission: {error.filename or error.strerror}\n  Change its rights, or choose another place."
    else:
        text = f"{''.join(traceback.format_exception(error))}\n{_whose_defect(error)}"
    tell(f"Error: {text}")
    if as_json:
        print_error(text, exit_code)
    return exit_code


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from peftlab.training.micro_batches import is_out_of_memory

    return is_out_of_memory(error)


def _whose_defect(error: BaseException) -> str:
    fault = fault_of(error)
    if fault is None:
        return "This is a defect of peftlab, not of your input. Please report it with the lines above."
    return (
        f"The plugin {fault.package} has raised this, in {fault.place}. It is neither a defect of peftlab nor of your "
        "input: please report it, with the lines above, to those who make the plugin."
    )


def reader_has_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):
        return True  # Windows cannot tell; there, too, it is the usual reason
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def end_output(code: int | str | None) -> int | str | None:
    """Write out what the standard streams still hold, before the program ends; messages that nobody reads are dropped.

    Args:
        code: With which it was to end.

    Returns:
        The exit code.
    """
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _to_nowhere(sys.stderr)
    if sys.stdout is None:  # closed by who started this
        return code
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = READER_LEFT
    except OSError as error:
        code = show_error(error)
    else:
        if code != READER_LEFT:
            return code
    _to_nowhere(sys.stdout)
    return code


def _to_nowhere(stream: TextIO) -> None:
    """Python flushes once more when it ends, and would complain."""
    with open(os.devnull, "wb") as nowhere, contextlib.suppress(OSError, ValueError):  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())


def quiet_libraries(*, offline: bool) -> None:
    """Keep the libraries from writing between peftlab's lines; must come before they are imported.

    Set ``PEFTLAB_VERBOSE=1`` to hear them.
    """
    if offline:
        os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline"})
        # These tell their makers how they are used.
        os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"})
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if os.environ.get("PEFTLAB_VERBOSE"):
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # stacks of C++ beside the messages of lost connections
    for name in ("huggingface_hub", "httpx", "httpx2", "bitsandbytes", "accelerate", "datasets", "peft", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


class RichReporter:
    """Progress bars with the time left: on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: list[Any] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """One line above the bars."""
        self._progress.print(line, markup=False, highlight=False)

    def start(self, description: str, total: int) -> None:
        """A bar appears; one without an end where the total is 0."""
        self._tasks.append(self._progress.add_task(description, total=total or None, detail=""))

    def advance(self, units: int, detail: str = "") -> None:
        """The bar moves."""
        if detail:
            self._progress.update(self._tasks[-1], advance=units, detail=detail)
        else:
            self._progress.advance(self._tasks[-1], units)

    def finish(self) -> None:
        """The bar goes."""
        self._progress.remove_task(self._tasks.pop())


@contextlib.contextmanager
def reporting() -> Iterator[PlainReporter | RichReporter | Silent]:
    """Bars on a terminal, lines elsewhere, both to standard error; of several processes, the first tells."""
    if not is_first_process():
        yield Silent()
        return
    if not sys.stderr.isatty():
        yield PlainReporter()
        return
    with RichReporter() as reporter:
        yield reporter
