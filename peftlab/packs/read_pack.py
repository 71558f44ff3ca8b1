"""Reading a pack: the record, the metrics log and the predictions of each of its runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from peftlab.core.config import first_mistake
from peftlab.core.errors import UserError, did_you_mean, first_line
from peftlab.core.record import CELLS, PREDICTIONS_NAME, RECORDS_NAME, RunRecord, parse_record
from peftlab.packs.layout import INDEX_NAME, METRICS_NAME, PACK_VERSION, TRIALS, TRIALS_NAME, PackedRun, PackIndex

if TYPE_CHECKING:
    import pyarrow as pa

REMEDY = "Take the pack's files anew from where they came from, all of them together."


@dataclass(frozen=True)
class Pack:
    """A pack, opened. Runs are named by their folder in the suite: ``cells/lora--seed0``.

    Args:
        folder: Of the suite.
        index: Its ``pack.json``.
    """

    folder: Path
    index: PackIndex

    @cached_property
    def runs(self) -> dict[str, PackedRun]:
        """All runs: the cells, then tuning's trials."""
        cells = {f"{CELLS}/{run.name}": run for run in self.index.cells}
        return cells | {f"{TRIALS}/{run.name}": run for run in self.index.trials}

    def cell(self, name: str) -> PackedRun:
        """A cell by its name.

        Raises:
            UserError: There is none of the name.
        """
        known = {run.name: run for run in self.index.cells}
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"the pack has no cell `{name}`", where=str(self.folder), hint=hint)
        return known[name]

    def record_text(self, run: str) -> str:
        """The record of a run as JSON.

        Raises:
            UserError: It is missing.
        """
        if run in self._records:
            return self._records[run]
        if run in self._trials:
            return self._trials[run]
        is_cell = run.startswith(f"{CELLS}/")
        raise UserError(
            f"the record of {run} is missing" + (f": there are {len(self._records)} lines" if is_cell else ""),
            where=str(self.folder / (RECORDS_NAME if is_cell else TRIALS_NAME)),
            hint=REMEDY,
        )

    def record(self, run: str) -> RunRecord:
        """The record of a run.

        Raises:
            UserError: It is missing, damaged, or of another schema version.
        """
        return parse_record(self.record_text(run), where=f"{self.folder}, {run}")

    def check(self, run: str) -> None:
        """See that all of a run is there.

        Raises:
            UserError: It is not, or a file is damaged.
        """
        self.record(run)
        self.metrics(run)
        self.predictions(run)

    def metrics(self, run: str) -> list[dict[str, Any]]:
        """The lines of a run's metrics log.

        Raises:
            UserError: The file is missing or damaged, or they are not all there.
        """
        rows = self._rows(METRICS_NAME, run, self.runs[run].metrics)
        return [] if rows is None else without_empty(rows.drop_columns("run").to_pylist())

    def predictions(self, run: str) -> pa.Table | None:
        """A run's predictions, by split and index; None where it left none.

        Raises:
            UserError: The file is missing or damaged, or they are not all there.
        """
        packed = self.runs[run]
        if packed.predictions is None:
            return None
        layout = self.index.layouts[packed.layout]
        rows = self._rows(PREDICTIONS_NAME, run.removeprefix(f"{CELLS}/"), packed.predictions)
        if rows is None:
            rows = self._table(PREDICTIONS_NAME).table.slice(0, 0)
        return rows.select(list(layout.values())).rename_columns(list(layout))

    @cached_property
    def _records(self) -> dict[str, str]:
        path = self.folder / RECORDS_NAME
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            raise _missing(path) from None
        except UnicodeDecodeError as error:
            raise UserError(f"the records are damaged: {error}", where=str(path), hint=REMEDY) from None
        lines = lines[:-1] if not lines[-1] else lines
        if len(lines) > len(self.index.cells):
            raise UserError(
                f"there are {len(lines)} records, but {INDEX_NAME} lists {len(self.index.cells)}",
                where=str(path),
                hint=REMEDY,
            )
        return {f"{CELLS}/{run.name}": line for run, line in zip(self.index.cells, lines, strict=False)}

    @cached_property
    def _trials(self) -> dict[str, str]:
        if not self.index.trials:
            return {}
        trials = self._table(TRIALS_NAME).table
        return dict(zip(trials["run"].to_pylist(), trials["record"].to_pylist(), strict=True))

    def _rows(self, file: str, run: str, expected: int) -> pa.Table | None:
        if not expected:
            return None
        rows = self._table(file).rows(run)
        found = 0 if rows is None else len(rows)
        if found != expected:
            raise UserError(
                f"{run} has {found or 'no'} rows in it, but {INDEX_NAME} says {expected}",
                where=str(self.folder / file),
                hint=REMEDY,
            )
        return rows

    def _table(self, file: str) -> _ByRun:
        return _read_table(self.folder / file, _stamp(self.folder / file))


@dataclass(frozen=True)
class _ByRun:
    """A table with the rows of each run together."""

    table: pa.Table
    places: dict[str, tuple[int, int]]

    def rows(self, run: str) -> pa.Table | None:
        """The rows of one run in the file's order."""
        if run not in self.places:
            return None
        start, count = self.places[run]
        return self.table.slice(start, count)


def open_pack(folder: Path | str) -> Pack:
    """Open a pack.

    Raises:
        UserError: It is of another version, or its index is missing or damaged.
    """
    folder = Path(folder)
    path = folder / INDEX_NAME
    return Pack(folder, _read_index(path, _stamp(path)))


@functools.lru_cache(maxsize=64)
def _read_index(path: Path, _stamp: tuple[int, int]) -> PackIndex:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"the pack's index is damaged: {error}", where=str(path), hint=REMEDY) from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != PACK_VERSION:
        raise UserError(
            f"the pack has schema version {version!r}; this peftlab reads version {PACK_VERSION}",
            where=str(path),
            hint="Read it with the peftlab that wrote it.",
        )
    try:
        return PackIndex.model_validate(values)
    except pydantic.ValidationError as error:
        raise UserError(f"the pack's index is damaged: {first_mistake(error)}", where=str(path)) from None


# A suite's report asks for each cell's rows several times, and a file is read as a whole or not at all.
@functools.lru_cache(maxsize=8)
def _read_table(path: Path, _stamp: tuple[int, int]) -> _ByRun:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read(use_threads=False).combine_chunks()
        column = table.column_names[0]
        runs = table[column].combine_chunks().dictionary_encode()
        codes = runs.indices.to_numpy(zero_copy_only=False)
        table = table.take(pa.array(np.argsort(codes, kind="stable"))).combine_chunks()
    except (pa.ArrowException, OSError, IndexError) as error:
        what = first_line(error)
        raise UserError(f"the file is damaged: {what}", where=str(path), hint=REMEDY) from None
    counts = np.bincount(codes, minlength=len(runs.dictionary))
    starts = np.cumsum(counts) - counts
    places = zip(runs.dictionary.to_pylist(), starts.tolist(), counts.tolist(), strict=True)
    return _ByRun(table, {name: (start, count) for name, start, count in places})


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when a file does."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise _missing(path) from None
    return stat.st_mtime_ns, stat.st_size


def _missing(path: Path) -> UserError:
    return UserError(f"the pack has no {path.name}", where=str(path.parent), hint=REMEDY)


def without_empty(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of a metrics log without what is null or holds nothing: in a table the two are the same."""
    return [_without_empty(line) for line in lines]


def _without_empty(line: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in line.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def packed_names(folder: Path) -> Iterator[str]:
    """The names of a suite's packed cells that have no folder of their own; where they have one, that counts.

    Raises:
        UserError: The pack cannot be opened.
    """
    for run in open_pack(folder).index.cells:
        if not (folder / CELLS / run.name).exists():
            yield run.name
