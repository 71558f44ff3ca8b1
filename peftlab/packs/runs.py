"""A run's record, metrics log and predictions, be they in its own folder or in the pack of its suite.

The path of a packed run is the one that its folder had: ``SUITE/cells/lora--seed0``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UserError, did_you_mean, first_line
from peftlab.core.record import (
    CELLS,
    METRICS_NAME,
    PREDICTIONS_NAME,
    RECORD_NAME,
    RECORDS_NAME,
    SUITE_NAME,
    RunRecord,
    read_record,
)
from peftlab.packs.layout import INDEX_NAME, is_pack
from peftlab.packs.read_pack import REMEDY, Pack, open_pack, packed_names

if TYPE_CHECKING:
    import pyarrow as pa


def find_packed(path: Path) -> tuple[Pack, str] | None:
    """The pack that a path leads into, and the run's name in it; None where there is a folder, or no pack.

    Raises:
        UserError: The pack has no such cell, or cannot be opened.
    """
    if path.parent.name != CELLS or path.exists() or not is_pack(path.parent.parent):
        return None
    pack = open_pack(path.parent.parent)
    return pack, f"{CELLS}/{pack.cell(path.name).name}"


def suite_cells(suite: Path) -> list[Path]:
    """The paths of all cells of a suite's folder, packed or not, by name.

    Raises:
        UserError: The pack cannot be opened, or its index is missing.
    """
    cells = suite / CELLS
    found = [path for path in cells.iterdir() if path.is_dir() and path.name[0] != "."] if cells.is_dir() else []
    packed = [cells / name for name in packed_names(suite)] if is_pack(suite) else []
    if not cells.is_dir() and not is_pack(suite) and (suite / RECORDS_NAME).exists():
        raise UserError(f"the pack has no {INDEX_NAME}", where=str(suite), hint=REMEDY)
    return sorted([*found, *packed])


def locate_run(path: Path, cell: str | None) -> Path:
    """The path of a run that a user has named.

    Args:
        path: The folder of a run; of a suite, packed or not, where a cell is named.
        cell: Its name, such as ``lora--seed0``.

    Raises:
        UserError: There is none.
    """
    suite = (path / SUITE_NAME).is_file()
    if cell is None and suite and not (path / RECORD_NAME).exists():
        cells = [found.name for found in suite_cells(path)]
        shown = ", ".join([*cells[:6], *(["…"] if len(cells) > 6 else [])])
        raise UserError(
            "this is the folder of a suite, not of a run", where=str(path), hint=f"Name one of its cells: {shown}."
        )
    if cell is None:
        return path
    if not suite:
        raise UserError(
            "this is not a suite's folder, so it has no cells", where=str(path), hint=f"Leave `{cell}` out."
        )
    run = path / CELLS / cell.removeprefix(f"{CELLS}/")
    if not run.exists() and find_packed(run) is None:
        hint = did_you_mean(run.name, [found.name for found in suite_cells(path)])
        raise UserError(f"the suite has no cell `{run.name}`", where=str(path), hint=hint)
    return run


def read_run_record(path: Path) -> RunRecord:
    """The record of a run.

    Raises:
        UserError: There is none, it is damaged, or it is of another schema version; or the pack that it is in does not
            hold all of the run.
    """
    packed = find_packed(path)
    if packed is None:
        return read_record(path)
    pack, run = packed
    pack.check(run)
    return pack.record(run)


def read_record_values(path: Path) -> dict[str, Any]:
    """The record of a run as it was written: one of an older peftlab lacks the keys that were added since.

    Raises:
        UserError: As ``read_run_record``.
    """
    read_run_record(path)
    packed = find_packed(path)
    text = (path / RECORD_NAME).read_text(encoding="utf-8") if packed is None else packed[0].record_text(packed[1])
    values: dict[str, Any] = json.loads(text)
    return values


def read_run_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics log; none where it left none. A line that was cut short ends it.

    Raises:
        UserError: It is in a pack that is damaged.
    """
    packed = find_packed(path)
    return read_metrics_file(path / METRICS_NAME) if packed is None else packed[0].metrics(packed[1])


def read_metrics_file(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(values, dict):
            break
        lines.append(values)
    return lines


def read_run_predictions(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """A run's predictions; None where it left none.

    Args:
        path: Of the run.
        columns: Those that are wanted; None: all.

    Raises:
        UserError: The file is damaged.
    """
    packed = find_packed(path)
    if packed is None:
        return read_predictions_file(path / PREDICTIONS_NAME, columns)
    table = packed[0].predictions(packed[1])
    return table if table is None or columns is None else table.select(list(columns))


def read_predictions_file(path: Path, columns: Sequence[str] | None) -> pa.Table | None:
    """A ``predictions.parquet``, or some of its columns; None where there is none.

    Raises:
        UserError: The file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return None
    try:
        table = pq.ParquetFile(path, memory_map=True).read(columns=columns, use_threads=False)
        return table if columns is None else table.select(list(columns))
    except UnicodeEncodeError:
        shown = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
        raise UserError("the name of its folder is no text", where=shown, hint="Rename the folder.") from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"the predictions are damaged: {first_line(error)}", where=str(path)) from None
