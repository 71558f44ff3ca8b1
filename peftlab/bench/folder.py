"""The folder of a suite: where things are in it, and its lock."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peftlab.errors import UserError


@dataclass(frozen=True)
class SuiteFolder:
    """The folder of a suite."""

    path: Path

    @property
    def cells(self) -> Path:
        """The runs that are compared."""
        return self.path / "cells"

    @property
    def tuning(self) -> Path:
        """What tuning has found."""
        return self.path / "tuning"

    @property
    def trials(self) -> Path:
        """The runs of tuning."""
        return self.tuning / "trials"

    @property
    def replaced(self) -> Path:
        """Runs that no longer belong to the suite."""
        return self.path / "replaced"

    @property
    def logs(self) -> Path:
        """What the processes said."""
        return self.path / "logs"

    def choice(self, cell: str) -> dict[str, Any] | None:
        """The settings that tuning has chosen for a cell; None where it has not been done."""
        path = self.tuning / f"{cell}.json"
        if not path.exists():
            return None
        chosen: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8"))["chosen"]
        return chosen


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a suite's folder.

    Raises:
        UserError: Another process runs the suite there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock").acquire(timeout=0):
            yield
    except Timeout:
        raise UserError("another process is running a suite in this folder", where=str(folder)) from None
