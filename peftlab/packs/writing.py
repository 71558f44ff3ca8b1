"""Making a pack of a suite's folder.

Nothing is removed before the pack is complete, on disk, and read back equal. What a pack does not hold stays: a cell
with weights or a checkpoint, a run that has not finished, a file that cannot be read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UserError
from peftlab.core.files import atomic_folder, folder_bytes, write_text
from peftlab.core.record import RECORD_NAME
from peftlab.packs.layout import (
    CELLS,
    INDEX_NAME,
    METRICS_NAME,
    PREDICTIONS_NAME,
    RECORDS_NAME,
    REPORT_NAMES,
    RUN_METRICS_NAME,
    RUN_PREDICTIONS_NAME,
    SECONDS_NAME,
    SUITE_NAME,
    TRIALS,
    TRIALS_NAME,
    PackedRun,
    PackIndex,
    is_pack,
)
from peftlab.packs.reading import open_pack, without_empty
from peftlab.packs.runs import read_record_values, read_run_metrics, read_run_predictions, suite_cells
from peftlab.packs.tables import write_metrics, write_predictions, write_trials
from peftlab.packs.unpacking import unpack

if TYPE_CHECKING:
    import pyarrow as pa

STAGING_NAME = ".pack.partial"
REMOVED_NAME = ".packed.partial"
DATA_NAMES = (RECORDS_NAME, PREDICTIONS_NAME, METRICS_NAME, TRIALS_NAME)
PACKED_OF_A_RUN = frozenset({RECORD_NAME, "recipe.yaml", RUN_METRICS_NAME, RUN_PREDICTIONS_NAME, ".lock"})
"""Files of a cell that a pack gives back; whatever else there is keeps the folder."""

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


@dataclass
class _Content:
    """Everything that goes into a pack."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    predictions: dict[str, pa.Table] = field(default_factory=dict)
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    trials: dict[str, str] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, Any] | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def pack_suite(folder: Path | str, write_reports: WriteReports, *, output: Path | str | None = None) -> Packed:
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
        content = _read(folder)
        packed = _write(content, folder, staging, write_reports)
        _install(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    packed.folder = folder
    packed.kept = _remove_packed(folder, content)
    return packed


def check_suite_folder(folder: Path) -> None:
    """See that a folder is a suite's.

    Raises:
        UserError: It is not.
    """
    if not folder.is_dir():
        raise UserError("there is no such folder", where=str(folder), hint="Give the folder of a suite.")
    if not (folder / SUITE_NAME).is_file():
        raise UserError(
            f"this is no suite's folder: it has no {SUITE_NAME}",
            where=str(folder),
            hint="Give the folder that `peftlab bench` has written.",
        )


def _pack_elsewhere(folder: Path, output: Path, write_reports: WriteReports) -> Packed:
    content = _read(folder)
    if output.exists() and not output.is_dir():
        raise UserError("this is a file", where=str(output), hint="Name a folder.")
    if output.is_dir() and any(output.iterdir()):
        _refuse_other_folder(output, content)
    with atomic_folder(output) as partial:
        packed = _write(content, folder, partial, write_reports)
    packed.folder = output
    return packed


def _refuse_other_folder(output: Path, content: _Content) -> None:
    names = {path.name for path in output.iterdir()}
    foreign = sorted(names - {".lock", INDEX_NAME, SUITE_NAME, *DATA_NAMES, *REPORT_NAMES})
    if foreign or not is_pack(output):
        raise UserError(
            f"the folder is no pack, or holds more than one: {', '.join(foreign[:4]) or 'there is no pack.json'}",
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
                "a pack would be written over this file, which is not one of peftlab's",
                where=str(path),
                hint=f"Move it away. If it belongs to a pack: the pack's {INDEX_NAME} is missing.",
            )


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).startswith(b"<!-- peftlab report -->")


def _read(folder: Path) -> _Content:
    content = _Content()
    for path in suite_cells(folder):
        run = f"{CELLS}/{path.name}"
        try:
            record, table, lines = read_record_values(path), read_run_predictions(path), read_run_metrics(path)
        except UserError as error:
            finished = not path.exists() or (path / RECORD_NAME).exists()
            content.left_out[run] = error.message if finished else "it has not finished"
            continue
        content.records[path.name] = record
        content.metrics[run] = lines
        if table is not None:
            content.predictions[path.name] = table
    _read_tuning(folder, content)
    if not content.records:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in list(content.left_out.items())[:8])
        raise UserError(f"there is no finished run to pack{reasons}", where=str(folder))
    return content


def _read_tuning(folder: Path, content: _Content) -> None:
    index = open_pack(folder) if is_pack(folder) else None
    if index is not None:
        content.tuning |= index.index.tuning
        content.seconds = index.index.suite_seconds
        for trial in index.index.trials:
            run = f"{TRIALS}/{trial.name}"
            content.trials[run], content.metrics[run] = index.record_text(run), index.metrics(run)
    for path in sorted((folder / "tuning").glob("*.json")):
        try:
            content.tuning[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            content.left_out[f"tuning/{path.name}"] = f"it is damaged: {error}"
    for path in sorted((folder / TRIALS).glob("[!.]*")):
        run = f"{TRIALS}/{path.name}"
        try:
            content.trials[run] = _compact(read_record_values(path))
            content.metrics[run] = read_run_metrics(path)
        except UserError as error:
            finished = (path / RECORD_NAME).exists()
            content.left_out[run] = error.message if finished else "it has not finished"
    path = folder / SECONDS_NAME
    if path.is_file():
        try:
            content.seconds = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            content.left_out[SECONDS_NAME] = f"it is damaged: {error}"


def _write(content: _Content, folder: Path, target: Path, write_reports: WriteReports) -> Packed:
    """Write a pack's files into an empty folder, and read them back."""
    shutil.copyfile(folder / SUITE_NAME, target / SUITE_NAME)
    write_text(target / RECORDS_NAME, "".join(f"{_compact(record)}\n" for record in content.records.values()))
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
    _verify(content, target)
    write_reports(target)
    sizes = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    return Packed(target, len(cells), len(trials), sizes, content.left_out)


def _compact(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _index_text(index: PackIndex) -> str:
    """A line for each run and each cell's tuning, so that a change of one shows as one."""
    parts = []
    for key, value in index.model_dump(mode="json", exclude_defaults=False).items():
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"  {_compact(item)}" for item in value) + "\n ]"
        elif isinstance(value, dict) and value:
            items = [f"  {_compact(name)}: {_compact(item)}" for name, item in value.items()]
            text = "{\n" + ",\n".join(items) + "\n }"
        else:
            text = _compact(value)
        parts.append(f" {_compact(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _verify(content: _Content, target: Path) -> None:
    pack = open_pack(target)
    for name, record in content.records.items():
        run = f"{CELLS}/{name}"
        table = content.predictions.get(name)
        if json.loads(pack.record_text(run)) != record or not _is_same(table, pack.predictions(run)):
            raise RuntimeError(f"{run} does not read back from its pack as it was.")
    for run, lines in content.metrics.items():
        if _comparable(pack.metrics(run)) != _comparable(without_empty(lines)):
            raise RuntimeError(f"The metrics of {run} do not read back from their pack as they were.")


def _is_same(before: pa.Table | None, packed: pa.Table | None) -> bool:
    if before is None or packed is None:
        return before is packed
    before = before.sort_by([("split", "ascending"), ("index", "ascending")]).replace_schema_metadata(None)
    return bool(before.equals(packed.cast(before.schema)))


def _comparable(lines: list[dict[str, Any]]) -> str:
    """All numbers as floats, nan equal to itself."""
    return json.dumps(json.loads(json.dumps(lines), parse_int=float), sort_keys=True)


def _install(staging: Path, folder: Path) -> None:
    """Move the files into the suite's folder, whose cells are still there: they count as long as they are."""
    for name in (INDEX_NAME, *DATA_NAMES, *REPORT_NAMES):
        if (staging / name).exists():
            (staging / name).replace(folder / name)


def _remove_packed(folder: Path, content: _Content) -> dict[str, int]:
    """Remove what the pack holds now; returns the cells that stay, and their bytes."""
    kept = {}
    removed = folder / REMOVED_NAME
    for name in content.records:
        path = folder / CELLS / name
        if not path.is_dir():
            continue
        if {item.name for item in path.iterdir()} <= PACKED_OF_A_RUN:
            _retire(path, removed / CELLS)
        else:
            kept[name] = folder_bytes(path)
    for run in content.trials:
        if (folder / run).is_dir():
            _retire(folder / run, removed / TRIALS)
    if content.seconds is not None:
        (folder / SECONDS_NAME).unlink(missing_ok=True)
    for cell in content.tuning:
        (folder / "tuning" / f"{cell}.json").unlink(missing_ok=True)
    tuning = folder / "tuning"
    if not any(tuning.glob("*.json")):
        # Made anew from what tuning has found.
        for name in ("optuna.jsonl", "optuna.sqlite3"):  # the second one is of earlier versions
            (tuning / name).unlink(missing_ok=True)
    for empty in (folder / CELLS, folder / TRIALS, tuning):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
    shutil.rmtree(removed, ignore_errors=True)
    return kept


def _retire(path: Path, to: Path) -> None:
    """Moved as a whole first: half a folder would hide the run that the pack holds."""
    to.mkdir(parents=True, exist_ok=True)
    path.replace(to / path.name)
