"""What a pack is made of.

Beside ``suite.yaml``, which stays as it is: ``records.jsonl`` (a record a line), ``predictions.parquet`` (all cells),
``metrics.parquet`` (the lines of every ``metrics.jsonl``), ``tuning.parquet`` (the records of tuning's trials),
``pack.json`` (an index, and what tuning has found), ``suite_data.json``, ``audits.jsonl`` where cells were audited,
and the report as ``report.html`` and ``report.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from peftlab.core.config import Config
from peftlab.core.folder_name import FolderName
from peftlab.core.record import PACK_INDEX_NAME, PREDICTIONS_NAME, RECORDS_NAME

PACK_VERSION: Literal[1] = 1
INDEX_NAME = PACK_INDEX_NAME
METRICS_NAME = "metrics.parquet"
TRIALS_NAME = "tuning.parquet"
DATA_NAMES = (RECORDS_NAME, PREDICTIONS_NAME, METRICS_NAME, TRIALS_NAME)
REPORT_NAMES = ("report.html", "report.md")
SECONDS_NAME = "suite_seconds.json"
SUITE_DATA_NAME = "suite_data.json"
"""Which data the runs have learned: it stays as it is, for `peftlab bench` to go on over the same ones."""
TRIALS = "tuning/trials"


class PackedRun(Config):
    """A run in a pack.

    The name is that of its folder, and no path. The record of the n-th cell is the n-th line of ``records.jsonl``.
    """

    name: FolderName
    predictions: int | None = Field(None, description="Rows; null where the run left no predictions.")
    layout: int = Field(0, description="Which of the index's layouts its predictions have.")
    metrics: int = Field(0, description="Lines of its metrics log.")


class PackIndex(Config):
    """``pack.json``."""

    schema_version: Literal[1] = PACK_VERSION
    cells: list[PackedRun]
    trials: list[PackedRun] = Field(default_factory=list)
    layouts: list[dict[str, str]] = Field(
        default_factory=list,
        description="Column of a run's predictions → column of the pack's. Where tasks differ, a column of another "
        "type has a name of its own.",
    )
    tuning: dict[FolderName, Any] = Field(default_factory=dict, description="Cell → what tuning has found for it.")
    suite_seconds: dict[str, Any] | None = None


def is_pack(folder: Path) -> bool:
    """Whether a folder holds a pack."""
    return (folder / INDEX_NAME).is_file()
