"""Making a suite's folder of a pack again, for ``peftlab bench`` to go on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from peftlab.core.files import atomic_folder, unfinished_in, write_json, write_text
from peftlab.core.record import CELLS, METRICS_NAME, PREDICTIONS_NAME, RECIPE_NAME, RECORD_NAME, SUITE_NAME
from peftlab.packs.layout import DATA_NAMES, INDEX_NAME, REPORT_NAMES, SECONDS_NAME, SUITE_DATA_NAME, TRIALS
from peftlab.packs.read_pack import Pack, open_pack
from peftlab.recipe.schema import write_yaml_values


def unpack(folder: Path) -> None:
    """Turn a pack into a suite's folder; the pack's files are removed once everything is there.

    Killed at any time, it can be called again, and nothing is lost.

    Raises:
        UserError: The pack is damaged; then nothing has been removed.
    """
    pack = open_pack(folder)
    for leftover in [*unfinished_in(folder / CELLS), *unfinished_in(folder / TRIALS)]:
        shutil.rmtree(leftover)
    _unpack_into(pack, folder)
    # The index goes last: with it there, a call that was cut short is known as one.
    for name in (*DATA_NAMES, *REPORT_NAMES, INDEX_NAME):
        (folder / name).unlink(missing_ok=True)


def unpack_copy(folder: Path, copy: Path) -> None:
    """Lay a pack out as a suite's folder elsewhere, to be looked at; what is not packed in it is linked to.

    Raises:
        UserError: The pack is damaged.
    """
    for pattern in (SUITE_NAME, SUITE_DATA_NAME, f"{CELLS}/*", f"{TRIALS}/*", "tuning/*.json"):
        for path in folder.glob(pattern):
            place = copy / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
    _unpack_into(open_pack(folder), copy)


def _unpack_into(pack: Pack, folder: Path) -> None:
    # A folder that is there counts, and holds what the pack holds.
    missing = [run for run in pack.runs if not (folder / run).exists()]
    # Everything is read before anything is written: a damaged pack stays as it is.
    for run in missing:
        pack.check(run)
    for run in missing:
        _unpack_run(pack, run, folder / run)
    for cell, found in pack.index.tuning.items():
        path = folder / "tuning" / f"{cell}.json"
        if not path.exists():
            write_text(path, json.dumps(found, indent=2) + "\n")
    if pack.index.suite_seconds is not None and not (folder / SECONDS_NAME).exists():
        write_text(folder / SECONDS_NAME, json.dumps(pack.index.suite_seconds, indent=2) + "\n")


def _unpack_run(pack: Pack, run: str, folder: Path) -> None:
    import pyarrow.parquet as pq

    record, lines, table = json.loads(pack.record_text(run)), pack.metrics(run), pack.predictions(run)
    with atomic_folder(folder) as partial:
        write_json(partial / RECORD_NAME, record)
        write_yaml_values(record["recipe"], partial / RECIPE_NAME)
        if lines:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            write_text(partial / METRICS_NAME, text)
        if table is not None:
            pq.write_table(table, partial / PREDICTIONS_NAME)
