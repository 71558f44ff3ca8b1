"""Who tells a person what a run is doing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
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
        self._description, self._total, self._done = "", 0, 0
        self._started = self._last = 0.0

    def say(self, line: str) -> None:
        """One line."""
        tell(line)

    def start(self, description: str, total: int) -> None:
        """Long work begins."""
        self._description, self._total, self._done = description, total, 0
        self._started = self._last = time.monotonic()

    def advance(self, units: int, detail: str = "") -> None:
        """A line every twenty seconds."""
        self._done += units
        now = time.monotonic()
        if now - self._last >= PLAIN_LINE_SECONDS and self._done < self._total:
            self._last = now
            left = (now - self._started) / self._done * (self._total - self._done) if self._done else None
            shown = "" if left is None else f" ({duration(left)} left)"
            self.say(f"{self._description}: {self._done}/{self._total} {detail}{shown}")

    def finish(self) -> None:
        """A line with the time it took, where it took some."""
        taken = time.monotonic() - self._started
        if taken >= 1:
            self.say(f"{self._description}: done in {duration(taken)}")
