"""Everything that goes into a pack: gathered from a suite's folder, and compared with what reads back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UserError
from peftlab.core.record import CELLS, RECORD_NAME
from peftlab.packs.layout import SECONDS_NAME, TRIALS, is_pack
from peftlab.packs.read_pack import open_pack, without_empty
from peftlab.packs.runs import read_record_values, read_run_metrics, read_run_predictions, suite_cells

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class PackContent:
    """Everything that goes into a pack."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    predictions: dict[str, pa.Table] = field(default_factory=dict)
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    trials: dict[str, str] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, Any] | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def read_content(folder: Path) -> PackContent:
    """Gather the finished runs of a suite's folder, packed or not.

    Raises:
        UserError: There is none.
    """
    content = PackContent()
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


def _read_tuning(folder: Path, content: PackContent) -> None:
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
            content.trials[run] = compact(read_record_values(path))
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


def verify(content: PackContent, target: Path) -> None:
    """See that a pack reads back as what went into it.

    Raises:
        RuntimeError: It does not.
    """
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


def compact(values: Any) -> str:
    """JSON without blanks."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
