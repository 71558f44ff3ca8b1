"""The runs of an ensemble: whether they go together, and the rows that none of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peftlab.artifact.same_question import check_same_question
from peftlab.artifact.saved_run import SavedRun, refuse_twice
from peftlab.core.errors import DataError, UnsupportedError, UserError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.data.columns import take
from peftlab.preparation.load_data import load_data
from peftlab.preparation.overlap import rows_not_in
from peftlab.preparation.teachers import SEEN_BY


def open_members(folders: Sequence[Path]) -> list[SavedRun]:
    """Open runs of one task.

    Raises:
        UserError: There is one only, one is named twice, or they do not go together.
    """
    runs = [SavedRun.open(folder) for folder in folders]
    if len(runs) < 2:
        raise UserError("two runs or more are needed", where=str(folders[0]) if folders else None)
    refuse_twice(runs)
    first = runs[0]
    if not first.recipe.task.pools_answers:
        raise UnsupportedError(
            f"answers of runs of {first.recipe.task.registered_name} have no mean",
            where=str(first.folder),
            hint="Ensembles are for classification and regression of texts, of pairs and of images.",
        )
    first_task, hint = first.recipe.task, "Runs of an ensemble answer the same question."
    for run in runs[1:]:
        check_same_question(run, first_task, first.labels, who=str(first.folder), hint=hint)
    return runs


@dataclass(frozen=True)
class HeldOut:
    """Rows that no run was trained on.

    Args:
        splits: ``validation`` and ``test``, as far as there are any.
        left_out: How many rows of the first run's splits another run has seen.
    """

    splits: Mapping[str, Split]
    left_out: Mapping[str, int]


def held_out_rows(runs: Sequence[SavedRun], *, offline: bool, report: ProgressCallback) -> HeldOut:
    """The held-out rows of the first run, without what another run was trained on, or chosen by.

    Raises:
        UserError: The data are not there any more, or no row is left.
    """
    splits = [_splits_of(run, offline, report) for run in runs]
    task, kept, left_out = runs[0].recipe.task, dict[str, Split](), dict[str, int]()
    for name, seen_by in SEEN_BY.items():
        if name not in splits[0]:
            continue
        split = splits[0][name]
        fresh = rows_not_in(split, [own[other] for own in splits for other in seen_by if other in own], task)
        left_out[name] = len(split) - len(fresh)
        if left_out[name]:
            report(f"{left_out[name]} of {len(split)} {name} rows are left out: another run has seen them in training")
        if fresh:
            kept[name] = take(split, fresh)
    if not kept:
        raise DataError(
            "there is no row that all of the runs have left aside, so nothing can be measured",
            where=str(runs[0].folder),
            hint="Tune the runs on one split: give test rows of their own (data.source.test), or set data.split_seed.",
        )
    return HeldOut(kept, left_out)


def _splits_of(run: SavedRun, offline: bool, report: ProgressCallback) -> Mapping[str, Split]:
    data = load_data(run.recipe, offline=offline, report=report)
    if run.record.data is not None and run.record.data.fingerprint != data.summary.fingerprint:
        report(f"{run.folder}: its data have changed since, so rows held out now may have been training rows")
    return data.splits
