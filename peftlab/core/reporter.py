"""Who tells a person what a run is doing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from peftlab.core.amounts import duration

ProgressCallback = Callable[[str], None]
"""Takes one line that tells a person what is going on."""
PLAIN_LINE_SECONDS = 20.0


@runtime_checkable
class Reporter(Protocol):
    """Tells a person what a run is doing."""

    def say(self, line: str) -> None:
        """One line."""

    def start(self, description: str, total: int) -> None:
        """Long work begins: so many units."""

    def advance(self, units: int, detail: str = "") -> None:
        """Some units are done; the detail is a figure worth seeing, such as the loss."""

    def finish(self) -> None:
        """The long work that began last has ended."""


@contextlib.contextmanager
def progress_bar(reporter: Reporter, description: str, total: int) -> Iterator[None]:
    """Long work of so many units, from beginning to end; the reporter's ``advance`` counts those that are done."""
    reporter.start(description, total)
    try:
        yield
    finally:
        reporter.finish()


class Silent:
    """A reporter that tells nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def start(self, description: str, total: int) -> None:
        """Nothing."""

    def advance(self, units: int, detail: str = "") -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class SaidOnce:
    """Says each line once: where many parts of a whole are checked that have the same to say.

    Args:
        reporter: To whom all is passed on.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._said: set[str] = set()
        self.start, self.advance, self.finish = reporter.start, reporter.advance, reporter.finish

    def say(self, line: str) -> None:
        """One line, unless it was said before."""
        if line not in self._said:
            self._said.add(line)
            self._reporter.say(line)


def tell(line: str) -> None:
    """One line on standard error. Where nobody reads it any more, the work goes on."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


class PlainReporter:
    """Lines on standard error: where there is no terminal, and in programs."""

    def __init__(self) -> None:
        self._works: list[_Work] = []

    def say(self, line: str) -> None:
        """One line."""
        tell(line)

    def start(self, description: str, total: int) -> None:
        """Long work begins, maybe within other work, as an evaluation does within training."""
        now = time.monotonic()
        self._works.append(_Work(description, total, started=now, last_line=now))

    def advance(self, units: int, detail: str = "") -> None:
        """A line every twenty seconds."""
        work, now = self._works[-1], time.monotonic()
        work.done += units
        if now - work.last_line >= PLAIN_LINE_SECONDS and work.done < work.total:
            work.last_line = now
            left = (now - work.started) / work.done * (work.total - work.done) if work.done else None
            shown = [f"{work.done}/{work.total}", detail, "" if left is None else f"({duration(left)} left)"]
            self.say(f"{work.description}: {' '.join(filter(None, shown))}")

    def finish(self) -> None:
        """A line with the time it took, where it took some."""
        work = self._works.pop()
        taken = time.monotonic() - work.started
        if taken >= 1:
            self.say(f"{work.description}: done in {duration(taken)}")


@dataclass
class _Work:
    description: str
    total: int
    started: float
    last_line: float
    done: int = 0
