"""``peftlab audit``: a run, rows, and the parts that look at them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from peftlab.audit.audited_run import AuditedRun
from peftlab.audit.before import check_alike, compare
from peftlab.audit.report import AuditReport
from peftlab.audit.rows import AuditRows, read_further, read_rows, train_rows
from peftlab.audit.run_audit import FEWEST_ROWS, build_report, run_parts, texts_to_read
from peftlab.core.audit import Audit, Audited, Findings
from peftlab.core.devices import by_default
from peftlab.core.errors import DataError
from peftlab.core.files import near_names
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.data.data_config import DataConfig
from peftlab.data.duplicates import text_keys
from peftlab.inference.predict import check_answers
from peftlab.inference.tuned_model import TunedModel


def audit_run(
    tuned: TunedModel,
    parts: Sequence[Audit],
    reporter: Reporter,
    *,
    reading: DataConfig,
    data: Path | None = None,
    before: TunedModel | None = None,
    given: AuditRows | None = None,
    slices: Sequence[str] = (),
    offline: bool,
    seed: int = 0,
) -> AuditReport:
    """Audit a run.

    Args:
        tuned: The model.
        parts: What looks, from ``choose_parts``.
        reporter: Shows the progress.
        reading: How the file of rows is written.
        data: Rows with what is right; None: those of the run that it was not trained on.
        before: Another run, which is asked about the same rows; the report then says what has changed since.
        given: Rows that have been read already, in the place of a file's.
        slices: Columns by which errors are parted.
        offline: Allow no network.
        seed: Of all that is drawn.

    Raises:
        UserError: The model says nothing of new texts, the rows cannot be used, or the run before cannot be asked
            about them.
    """
    began = time.monotonic()
    if not any(part.asks_likelihoods and part.tables() for part in parts):
        for each in filter(None, (tuned, before)):
            check_answers(each)
    if before is not None:
        check_alike(tuned, before)
    _check_tables(parts)
    columns = tuple(dict.fromkeys([*slices, *(name for part in parts for name in part.columns())]))
    if given is None:
        given = read_rows(tuned, data, columns=columns, reading=reading, offline=offline, report=reporter.say)
    if len(given.rows) < FEWEST_ROWS:
        raise DataError(
            f"there are {len(given.rows)} rows, and an audit needs {FEWEST_ROWS} at least to say anything",
            where=given.name,
            hint="Give it more rows with labels, which the run has not learned: --data FILE.",
        )
    if given.why_no_train:
        reporter.say(given.why_no_train)

    def look(own: TunedModel, train: Split | None) -> _Looked:
        return _look(own, parts, given.rows, train, reporter, slices=slices, reading=reading, seed=seed)

    earlier, earlier_name, learned = None, "", None
    if before is not None:
        earlier_name, name = _names_apart(before, tuned)
        reporter.say(f"first {earlier_name}, the run before")
        learned = train_rows(before, offline=offline, report=reporter.say)
        earlier = look(before, learned)
        reporter.say(f"and now {name}")
    audited, found, skipped = look(tuned, given.train)
    report = build_report(audited, found, skipped, data=given.name, began=began)
    report = report.model_copy(update={"caveats": list(given.caveats)})
    if before is not None and earlier is not None:
        shared = None if learned is None else _count_shared(given.rows, learned, tuned.task)
        compared = compare(earlier_name, earlier[1], found, rows_learned=shared)
        report = report.model_copy(update={"before": compared})
    return report


def _check_tables(parts: Sequence[Audit]) -> None:
    for part in parts:
        for table in part.tables():
            if not Path(table).exists():
                where, hint = f"--set {part.registered_name}: {table}", near_names(Path(table))
                raise DataError("no such file", where=where, hint=hint)


def _names_apart(before: TunedModel, tuned: TunedModel) -> tuple[str, str]:
    """What two runs are called; those of one recipe have one name, and are told apart by their folders."""
    if before.name != tuned.name:
        return before.name, tuned.name
    return str(before.folder), str(tuned.folder)


def _count_shared(rows: Split, train: Split, task: Task) -> int:
    known = set(text_keys(train, task.text_columns()))
    return sum(key in known for key in text_keys(rows, task.text_columns()))


_Looked = tuple[Audited, dict[str, Findings], dict[str, str]]


def _look(
    tuned: TunedModel,
    parts: Sequence[Audit],
    rows: Split,
    train: Split | None,
    reporter: Reporter,
    *,
    slices: Sequence[str],
    reading: DataConfig,
    seed: int,
) -> _Looked:
    """What all parts find of one model."""
    model = AuditedRun(tuned, reporter.advance)
    with progress_bar(reporter, "reading the rows", len(rows)):
        predictions = model.predict(rows)
    audited = Audited(model, rows, predictions, train, slices, reporter, seed, partial(read_further, tuned, reading))
    place = None if tuned.inference is None else tuned.inference.device  # of judges and writers, too
    with progress_bar(reporter, "auditing (texts)", texts_to_read(audited, parts)), by_default(place):
        found, skipped = run_parts(audited, parts)
    return audited, found, skipped
