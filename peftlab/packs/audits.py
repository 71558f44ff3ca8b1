"""``audits.jsonl``: the figures of the audits of a suite's cells, in the suite's folder and in its pack alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from peftlab.core.config import Config
from peftlab.core.errors import UserError, first_line
from peftlab.core.files import write_text

AUDITS_NAME = "audits.jsonl"
FIGURE_KEYS = ("value", "low", "high", "n", "sampled", "unit", "higher_is_better")


class CellAudit(Config):
    """One cell's: what ``peftlab audit --json`` printed, without sentences and examples.

    Args:
        cell: The name of the cell's folder.
        started_at: Of the run; another time is another run.
        rows: That were audited.
        alarms: Names of figures.
        figures: By name; their keys are those of ``peftlab audit --json``.
    """

    cell: str
    started_at: str
    rows: int
    alarms: list[str]
    figures: dict[str, dict[str, Any]]

    def measured(self, figure: str) -> tuple[float, str] | None:
        """Value and unit of a figure; None where the audit has it not, or it has no finite value."""
        found = self.figures.get(figure, {})
        value = found.get("value")
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value), str(found.get("unit", "share"))


def audit_of_report(report: dict[str, Any], *, cell: str, started_at: str) -> CellAudit:
    """What is kept of the object that ``peftlab audit --json`` prints."""
    figures = {name: {key: own[key] for key in FIGURE_KEYS} for name, own in report["figures"].items()}
    return CellAudit(cell=cell, started_at=started_at, rows=report["rows"], alarms=report["alarms"], figures=figures)


def read_audits(folder: Path) -> list[CellAudit]:
    """The audits of a suite; none where there is no file.

    Raises:
        UserError: The file is damaged.
    """
    path = folder / AUDITS_NAME
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [CellAudit.model_validate(json.loads(line)) for line in lines if line.strip()]
    except (ValueError, ValidationError) as error:
        raise UserError(
            f"the audits are damaged: {first_line(error)}",
            where=str(path),
            hint="Remove the file; `peftlab bench` makes it anew.",
        ) from None


def write_audits(folder: Path, audits: Iterable[CellAudit]) -> None:
    """Write them, a line each."""
    write_text(folder / AUDITS_NAME, "".join(each.model_dump_json() + "\n" for each in audits))
