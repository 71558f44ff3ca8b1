"""``audit: true`` of a suite: every cell is audited, one after the other, when all have run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peftlab.core.errors import UserError
from peftlab.core.record import CELLS, PARTS, RECORD_NAME, read_record
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.packs.audits import audit_of_report, read_audits, write_audits


def audit_cells(folder: Path, audit: Callable[[Path], dict[str, Any]], reporter: Reporter) -> dict[str, str]:
    """Audit the cells of a suite that have ended well and are not audited yet.

    Args:
        folder: Of the suite.
        audit: Audits the run in a folder, and gives what ``peftlab audit --json`` prints.
        reporter: Shows the progress.

    Returns:
        Why a cell could not be audited, by its name.
    """
    done = {each.cell: each for each in read_audits(folder)}
    cells = {path.parent.name: path.parent for path in sorted((folder / CELLS).glob(f"*/{RECORD_NAME}"))}
    records = {name: read_record(cell) for name, cell in cells.items()}
    # What a pack no longer has as a folder stays; what has been run anew since is audited anew.
    kept = {
        name: each for name, each in done.items() if name not in records or each.started_at == records[name].started_at
    }
    missing = [
        name
        for name, record in records.items()
        if name not in kept and record.status == "success" and any((cells[name] / part).is_dir() for part in PARTS)
    ]
    failed: dict[str, str] = {}
    with progress_bar(reporter, "audits", len(missing)):
        for name in missing:
            try:
                report = audit(cells[name])
            except UserError as error:
                failed[name] = error.message
                reporter.say(f"{name} could not be audited: {error}")
            else:
                kept[name] = audit_of_report(report, cell=name, started_at=records[name].started_at)
                write_audits(folder, [kept[each] for each in sorted(kept)])
            reporter.advance(1)
    return failed
