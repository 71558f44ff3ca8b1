"""Making a pack of a suite's folder.

Nothing is removed before the pack is complete, on disk, and read back equal. What a pack does not hold stays: a cell
with weights or a checkpoint, a run that has not finished, a file that cannot be read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peftlab.core.errors import UserError
from peftlab.core.files import PARTIAL, atomic_folder, bring_back, near_names, write_text
from peftlab.core.record import CELLS, PREDICTIONS_NAME, RECORDS_NAME, SUITE_NAME
from peftlab.packs.audits import AUDITS_NAME
from peftlab.packs.layout import (
    DATA_NAMES,
    INDEX_NAME,
    METRICS_NAME,
    REPORT_NAMES,
    SUITE_DATA_NAME,
    TRIALS,
    TRIALS_NAME,
    PackedRun,
    PackIndex,
    is_pack,
)
from peftlab.packs.pack_content import PackContent, compact, read_content, verify
from peftlab.packs.packed_folders import REMOVED_NAME, remove_packed
from peftlab.packs.read_pack import open_pack
from peftlab.packs.tables import write_metrics, write_predictions, write_trials
from peftlab.packs.unpacking import unpack

STAGING_NAME = f".pack{PARTIAL}"
COPIED_NAMES = (AUDITS_NAME, SUITE_DATA_NAME)
"""What a pack holds as the suite's folder has it, where it has it."""
WriteReports = Callable[[Path], None]
"""Writes ``report.html`` and ``report.md`` into a pack's folder."""


@dataclass
class Packed:
    """A pack that has been made.

    Args:
        folder: Of the pack.
        cells: How many runs it holds.
        trials: How many trials of tuning.
        sizes: Bytes of each of its files.
        left_out: What could not be packed, and why.
        kept: Cells whose folders stay, for what the pack does not hold, and their bytes.
    """

    folder: Path
    cells: int
    trials: int
    sizes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)


def pack_suite(folder: Path | str, write_reports: WriteReports, *, output: Path | str | None) -> Packed:
    """Make a pack.

    Args:
        folder: Of a suite, as ``peftlab bench`` leaves it, or a pack.
        write_reports: Writes the reports of the pack.
        output: Where the pack goes, and the folder stays as it is; None: the folder itself becomes the pack.

    Returns:
        What was packed, and what was not.

    Raises:
        UserError: The folder is no suite's, nothing in it can be packed, or a file in the way is not peftlab's.
    """
    folder = Path(folder)
    output = None if output is None else Path(output)
    check_suite_folder(folder)
    if output is not None:
        return _pack_elsewhere(folder, output, write_reports)
    _refuse_foreign_files(folder)
    if is_pack(folder):
        unpack(folder)
    staging = folder / STAGING_NAME
    for leftover in (staging, folder / REMOVED_NAME):
        shutil.rmtree(leftover, ignore_errors=True)
    staging.mkdir()
    try:
        content = read_content(folder)
        packed = _write(content, folder, staging, write_reports)
        _install(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    packed.folder = folder
    packed.kept = remove_packed(folder, content)
    return packed


def check_suite_folder(folder: Path) -> None:
    """See that a folder is a suite's.

    Raises:
        UserError: It is not.
    """
    bring_back(folder)
    if folder.is_file():
        raise UserError("this is a file", where=str(folder), hint="Give the folder that `peftlab bench` has written.")
    if not folder.is_dir():
        raise UserError("there is no such folder", where=str(folder), hint=near_names(folder))
    if not (folder / SUITE_NAME).is_file():
        raise UserError(
            f"this is not a suite's folder: it has no {SUITE_NAME}",
            where=str(folder),
            hint="Give the folder that `peftlab bench` has written.",
        )


def _pack_elsewhere(folder: Path, output: Path, write_reports: WriteReports) -> Packed:
    content = read_content(folder)
    if output.exists() and not output.is_dir():
        raise UserError("this is a file", where=str(output), hint="Name a folder.")
    if output.is_dir() and any(output.iterdir()):
        _refuse_other_folder(output, content)
    with atomic_folder(output) as partial:
        packed = _write(content, folder, partial, write_reports)
    packed.folder = output
    return packed


def _refuse_other_folder(output: Path, content: PackContent) -> None:
    names = {path.name for path in output.iterdir()}
    own = {".lock", INDEX_NAME, SUITE_NAME, *COPIED_NAMES, *DATA_NAMES, *REPORT_NAMES}
    foreign = sorted(names - own)
    if foreign or not is_pack(output):
        raise UserError(
            f"the folder is not a pack, or holds other things: {', '.join(foreign[:4]) or 'there is no pack.json'}",
            where=str(output),
            hint="Name a new folder.",
        )
    lost = sorted({run.name for run in open_pack(output).index.cells} - content.records.keys())
    if lost:
        raise UserError(
            f"the pack there holds cells that this suite does not have: {', '.join(lost[:4])}",
            where=str(output),
            hint="Name a new folder.",
        )


def _refuse_foreign_files(folder: Path) -> None:
    """Without an index, files of a pack's names are not of a pack: it is written first and removed last."""
    if is_pack(folder):
        return
    for name in (*DATA_NAMES, *REPORT_NAMES):
        path = folder / name
        if path.exists() and not (name == "report.html" and _is_report(path)):
            raise UserError(
                "the pack would overwrite this file, which is not from peftlab",
                where=str(path),
                hint=f"Move it away. If it belongs to a pack: the pack's {INDEX_NAME} is missing.",
            )


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).startswith(b"<!-- peftlab report -->")


def _write(content: PackContent, folder: Path, target: Path, write_reports: WriteReports) -> Packed:
    """Write a pack's files into an empty folder, and read them back."""
    shutil.copyfile(folder / SUITE_NAME, target / SUITE_NAME)
    for name in COPIED_NAMES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    write_text(target / RECORDS_NAME, "".join(f"{compact(record)}\n" for record in content.records.values()))
    layouts, chosen = write_predictions(content.predictions, target / PREDICTIONS_NAME)
    write_metrics(content.metrics, target / METRICS_NAME)
    if content.trials:
        write_trials(content.trials, target / TRIALS_NAME)
    cells = [
        PackedRun(
            name=name,
            predictions=len(content.predictions[name]) if name in content.predictions else None,
            layout=chosen.get(name, 0),
            metrics=len(content.metrics[f"{CELLS}/{name}"]),
        )
        for name in content.records
    ]
    trials = [
        PackedRun(name=run.removeprefix(f"{TRIALS}/"), metrics=len(content.metrics[run])) for run in content.trials
    ]
    index = PackIndex(cells=cells, trials=trials, layouts=layouts, tuning=content.tuning, suite_seconds=content.seconds)
    write_text(target / INDEX_NAME, _index_text(index))
    verify(content, target)
    write_reports(target)
    sizes = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    return Packed(target, len(cells), len(trials), sizes, content.left_out)


def _index_text(index: PackIndex) -> str:
    """A line for each run and each cell's tuning, so that a change of one shows as one."""
    parts = []
    for key, value in index.model_dump(mode="json", exclude_defaults=False).items():
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"  {compact(item)}" for item in value) + "\n ]"
        elif isinstance(value, dict) and value:
            items = [f"  {compact(name)}: {compact(item)}" for name, item in value.items()]
            text = "{\n" + ",\n".join(items) + "\n }"
        else:
            text = compact(value)
        parts.append(f" {compact(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _install(staging: Path, folder: Path) -> None:
    """Move the files into the suite's folder, whose cells are still there: they count as long as they are."""
    for name in (INDEX_NAME, *COPIED_NAMES, *DATA_NAMES, *REPORT_NAMES):
        if (staging / name).exists():
            (staging / name).replace(folder / name)
