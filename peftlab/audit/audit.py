"""``peftlab audit``: a run, rows, and the parts that look at them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from peftlab.audit.audited_run import AuditedRun
from peftlab.audit.report import AuditReport
from peftlab.audit.rows import read_further, read_rows
from peftlab.audit.run_audit import FEWEST_ROWS, build_report, run_parts, texts_to_read
from peftlab.core.audit import Audit, Audited
from peftlab.core.errors import DataError
from peftlab.core.reporter import Reporter
from peftlab.data.data_config import DataConfig
from peftlab.inference.predict import check_answers
from peftlab.inference.tuned_model import TunedModel


def audit_run(
    tuned: TunedModel,
    parts: Sequence[Audit],
    reporter: Reporter,
    *,
    reading: DataConfig,
    data: Path | None = None,
    slices: Sequence[str] = (),
    offline: bool = False,
    seed: int = 0,
) -> AuditReport:
    """Audit a run.

    Args:
        tuned: The model.
        parts: What looks, from ``choose_parts``.
        reporter: Shows the progress.
        reading: How the file of rows is written.
        data: Rows with what is right; None: those of the run that it was not trained on.
        slices: Columns by which errors are parted.
        offline: Allow no network.
        seed: Of all that is drawn.

    Raises:
        UserError: The model says nothing of new texts, or the rows cannot be used.
    """
    began = time.monotonic()
    check_answers(tuned)
    for part in parts:
        for table in part.tables():
            if not Path(table).exists():
                raise DataError("no such file", where=f"--set {part.registered_name}: {table}")
    columns = tuple(dict.fromkeys([*slices, *(name for part in parts for name in part.columns())]))
    given = read_rows(tuned, data, columns=columns, reading=reading, offline=offline, report=reporter.say)
    if len(given.rows) < FEWEST_ROWS:
        raise DataError(
            f"there are {len(given.rows)} rows, and an audit needs {FEWEST_ROWS} at least to say anything",
            where=given.name,
        )
    if given.why_no_train:
        reporter.say(given.why_no_train)
    reporter.start("reading the rows", len(given.rows))
    try:
        predictions = AuditedRun(tuned, reporter.advance).predict(given.rows)
    finally:
        reporter.finish()
    model = AuditedRun(tuned, reporter.advance)
    audited = Audited(
        model, given.rows, predictions, given.train, slices, reporter, seed, partial(read_further, tuned, reading)
    )
    reporter.start("auditing (texts)", texts_to_read(audited, parts))
    try:
        found, skipped = run_parts(audited, parts)
    finally:
        reporter.finish()
    return build_report(audited, found, skipped, data=given.name, began=began)
