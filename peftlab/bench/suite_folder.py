"""The folder of a suite: where things are in it, its lock, and which folders it may be."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.core.destination import PARTS_OF_A_SUITE, check_folder
from peftlab.core.errors import UserError
from peftlab.core.files import bring_back, names_in
from peftlab.core.folder_lock import alone_in
from peftlab.core.record import CELLS, RECORDS_NAME, SUITE_NAME, read_record
from peftlab.packs.layout import SUITE_DATA_NAME

REPORT_NAME = "report.html"


@dataclass(frozen=True)
class SuiteFolder:
    """The folder of a suite."""

    path: Path

    @property
    def cells(self) -> Path:
        """The runs that are compared."""
        return self.path / CELLS

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

    def seed_of_trials(self) -> int | None:
        """The seed of the trials that are there; None where there are none."""
        first = next(iter(sorted(self.trials.glob("*/record.json"))), None)
        return None if first is None else int(read_record(first.parent).recipe["seed"])


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a suite's folder.

    Raises:
        UserError: Another process is at work there, or nothing can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, ".lock", busy="another process is at work in this folder"):
        yield


def refuse_foreign_folder(folder: Path, *, is_page: Callable[[Path], bool]) -> None:
    """Refuse a folder that holds what is not a suite's: its ``suite.yaml`` and ``report.html`` would be replaced.

    Args:
        folder: Of the suite, new or begun.
        is_page: Whether a file is a page that a report has written.

    Raises:
        UserError: It is a file, holds other things, lies in a run's folder, or cannot be made.
    """
    bring_back(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError("the suite's folder is a file", where=str(folder), hint="Choose another --output-dir.")
    there = names_in(folder)
    if not there - {".lock", SUITE_DATA_NAME}:  # a call that was killed may have left no more
        check_folder(folder, option="--output-dir")
        return
    if SUITE_NAME not in there or not there & {".lock", RECORDS_NAME, *PARTS_OF_A_SUITE}:
        raise UserError(
            "the folder holds other things, and no suite",
            where=str(folder),
            hint="Choose another --output-dir.",
        )
    report = folder / REPORT_NAME
    if report.exists() and not is_page(report):
        raise UserError("this file is not a report of peftlab, so it is not overwritten", where=str(report))
