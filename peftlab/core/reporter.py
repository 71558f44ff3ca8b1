"""Who tells a person what a run is doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

ProgressCallback = Callable[[str], None]
"""Takes one line that tells a person what is going on."""


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
