"""Folders of runs that a pack holds are removed, each as a whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from peftlab.core.files import PARTIAL, folder_bytes
from peftlab.core.record import CELLS, METRICS_NAME, PREDICTIONS_NAME, RECIPE_NAME, RECORD_NAME
from peftlab.packs.layout import SECONDS_NAME, TRIALS
from peftlab.packs.pack_content import PackContent

REMOVED_NAME = f".packed{PARTIAL}"
PACKED_OF_A_RUN = frozenset({RECORD_NAME, RECIPE_NAME, METRICS_NAME, PREDICTIONS_NAME, ".lock"})
"""Files of a cell that a pack gives back; whatever else there is keeps the folder."""


def remove_packed(folder: Path, content: PackContent) -> dict[str, int]:
    """Remove what the pack holds now; returns the cells that stay, and their bytes."""
    kept = {}
    removed = folder / REMOVED_NAME
    for name in content.records:
        path = folder / CELLS / name
        if not path.is_dir():
            continue
        if {item.name for item in path.iterdir()} <= PACKED_OF_A_RUN:
            _move_out(path, removed / CELLS)
        else:
            kept[name] = folder_bytes(path)
    for run in content.trials:
        if (folder / run).is_dir():
            _move_out(folder / run, removed / TRIALS)
    if content.seconds is not None:
        (folder / SECONDS_NAME).unlink(missing_ok=True)
    for cell in content.tuning:
        (folder / "tuning" / f"{cell}.json").unlink(missing_ok=True)
    tuning = folder / "tuning"
    if not any(tuning.glob("*.json")):
        # Made anew from what tuning has found.
        (tuning / "optuna.jsonl").unlink(missing_ok=True)
    for empty in (folder / CELLS, folder / TRIALS, tuning):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
    shutil.rmtree(removed, ignore_errors=True)
    return kept


def _move_out(path: Path, to: Path) -> None:
    """Moved as a whole first: half a folder would hide the run that the pack holds."""
    to.mkdir(parents=True, exist_ok=True)
    path.replace(to / path.name)
