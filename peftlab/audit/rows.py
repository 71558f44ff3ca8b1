"""The rows that are audited, and those that the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peftlab.core.audit import Need
from peftlab.core.errors import DataError, UserError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.data.columns import check_columns
from peftlab.data.data_config import DataConfig
from peftlab.data.splits import LoadedData
from peftlab.data.streaming import stream_file, whole_split_of
from peftlab.inference.files import options_in_hints
from peftlab.inference.tuned_model import TunedModel
from peftlab.preparation.load_data import load_data

CHANGED = "the run's data have changed since it was trained, so nothing is said of its training rows"

CHOSEN_BY = (
    "There are no test rows, so these are the validation rows. The run was chosen and calibrated by them: it may do "
    "worse on new ones."
)


@dataclass(frozen=True)
class AuditRows:
    """What is read before an audit.

    Args:
        rows: That are audited.
        name: What they are called.
        train: What the model was trained on; None where it cannot be read.
        why_no_train: The reason.
        caveats: Why figures on these rows may look too good.
    """

    rows: Split
    name: str
    train: Split | None
    why_no_train: str = ""
    caveats: Sequence[str] = ()


def read_rows(
    tuned: TunedModel, data: Path | None, *, columns: Sequence[str], reading: DataConfig, offline: bool,
    report: ProgressCallback,
) -> AuditRows:  # fmt: skip
    """The rows of a file, or those that the run was not trained on.

    Args:
        tuned: Its recipe names the run's data.
        data: The file; None: the run's test split, or else its validation split.
        columns: To read beside the task's.
        reading: How the file is written.
        offline: Allow no network.
        report: Is told of downloads.

    Raises:
        UserError: There are no such rows, they cannot be used for the task, or the run may have learned some by now.
    """
    if data is None:
        own = load_data(tuned.recipe, offline=offline, report=report, more_columns=columns)
        train = _unchanged_train(tuned, own)
        name = next((each for each in ("test", "validation") if each in own.splits), None)
        if name is None:
            raise UserError("the run has no test and no validation split", where=tuned.name, hint="Give --data FILE.")
        if train is None:
            raise DataError(
                f"the data have changed since the run, so its {name} rows may be rows that it has learned",
                where=str(tuned.folder),
                hint="Bring the data back as they were, or give rows that it has not learned: --data FILE.",
            )
        rows = _checked(tuned, own.splits[name], columns)
        caveats = [] if name == "test" else [CHOSEN_BY]
        return AuditRows(rows, f"the {name} split of {rows.source or tuned.name}", train, caveats=caveats)
    rows = read_table_rows(tuned, data, columns=columns, reading=reading)
    try:
        own = load_data(tuned.recipe, offline=offline, report=report)
    except UserError as error:  # a run travels without its data; what needs them is left out, and says why
        return AuditRows(rows, data.name, None, f"the run's training data cannot be read: {error.message}")
    train = _unchanged_train(tuned, own)
    return AuditRows(rows, data.name, train, "" if train else CHANGED)


def read_table_rows(tuned: TunedModel, path: Path, *, columns: Sequence[str], reading: DataConfig) -> Split:
    """The rows of a file with what is to be predicted.

    Raises:
        DataError: A column is missing, or a row cannot be used.
    """
    task = tuned.task
    keep = tuple(dict.fromkeys((*task.source_columns(), *columns)))
    with options_in_hints():
        images, numbers = task.image_columns(), task.number_columns()
        stream = stream_file(path, reading, keep=keep, number_columns=numbers, image_columns=images)
        table = whole_split_of(stream, "test", keep, optional=task.optional_columns())
        return _checked(tuned, task.tidy_rows(task.arrange(table)), columns)


def read_further(
    tuned: TunedModel, reading: DataConfig, path: Path, *, need: Need, columns: Sequence[str] = ()
) -> Split:
    """The rows of another table: see ``peftlab.core.audit.ReadTable``.

    Raises:
        DataError: There is no such file, a column is missing, or a row cannot be used.
    """
    if need == "labels":
        return read_table_rows(tuned, path, columns=columns, reading=reading)
    task = tuned.task
    texts = task.input_columns() if need == "texts" else ()
    keep = tuple(dict.fromkeys((*texts, *columns)))
    with options_in_hints():
        stream = stream_file(path, reading, keep=keep, image_columns=task.image_columns())
        rows = whole_split_of(stream, "data", keep)
        rows = task.tidy_rows(rows) if texts else rows
        check_columns(rows, texts, ())
        return rows


def _checked(tuned: TunedModel, rows: Split, columns: Sequence[str]) -> Split:
    task = tuned.task
    check_columns(rows, task.text_columns(), task.label_columns())
    task.check_split(rows, tuned.labels)
    lost = [name for name in columns if name not in rows.columns or all(v is None for v in rows.columns[name])]
    if lost:
        raise UserError(
            f"there is no column `{lost[0]}` in the rows, or it is empty",
            where=rows.source,
            hint="Name columns of the table that is audited.",
        )
    return rows


def train_rows(tuned: TunedModel, *, offline: bool, report: ProgressCallback) -> Split | None:
    """The rows that a run was trained on; None where they cannot be read, or may be others now, which is told."""
    try:
        train = _unchanged_train(tuned, load_data(tuned.recipe, offline=offline, report=report))
    except UserError as error:
        report(f"{tuned.name}: the run's training data cannot be read: {error.message}")
        return None
    if train is None:
        report(f"{tuned.name}: {CHANGED}")
    return train


def _unchanged_train(tuned: TunedModel, own: LoadedData) -> Split | None:
    """The training rows, unless they may be others now."""
    record = tuned.record
    if record is not None and record.data is not None and record.data.fingerprint != own.summary.fingerprint:
        return None
    return own.splits["train"]
