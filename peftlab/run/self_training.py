"""Self-training: what teachers say of texts without labels becomes training rows of the next one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UnsupportedError
from peftlab.core.reporter import Reporter
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.data.augmenting import join_rows
from peftlab.data.columns import take
from peftlab.data.splits import LoadedData, fingerprint
from peftlab.preparation.check import CheckedRecipe
from peftlab.run.ask_saved_run import ask
from peftlab.run.run_folder import RunFolder
from peftlab.run.side_runs import Execute, plain, run_beside
from peftlab.training.self_training import surest

if TYPE_CHECKING:
    import torch

TEACHERS = "teachers"
NOTE = "self_training"


def with_pseudo_labels(
    checked: CheckedRecipe,
    folder: Path,
    teach: Execute,
    *,
    device: torch.device,
    offline: bool,
    reporter: Reporter,
    processes: int,
) -> CheckedRecipe:
    """The recipe with what its teachers say added to the training rows.

    Each teacher is a run of the same recipe in ``teachers/<round>``; one that has ended is not run again, so a run that
    was stopped goes on where it was.

    Args:
        checked: With texts without labels.
        folder: The run's.
        teach: Runs a teacher.
        device: Where the teachers are asked.
        offline: Allow no network.
        reporter: Tells a person.
        processes: That train together.

    Raises:
        RunFailedError: A teacher has failed, or was stopped.
        UnsupportedError: There are several processes.
    """
    settings, pool = checked.recipe.training.self_training, checked.data.unlabeled
    if settings is None or pool is None:
        return checked
    if processes > 1:
        raise UnsupportedError(
            "teachers are tuned in one process", where="training.self_training", hint="Leave --processes out."
        )
    original, notes = checked.data, list[dict[str, Any]]()
    for number in range(1, settings.rounds + 1):
        place = RunFolder(folder / TEACHERS / str(number))
        name = f"teacher {number} of {settings.rounds}"
        record = run_beside(plain(checked), place, teach, reporter=reporter, name=name)
        said = ask(place.path, pool, device=device, offline=offline)
        kept = surest(said, checked.labels, share=settings.share, least_confidence=settings.least_confidence)
        by_class = Counter(said[at].prediction for at in kept)
        shown = ", ".join(f"{name} {by_class[name]}" for name in checked.labels[:12])
        reporter.say(f"{len(kept)} of {len(pool)} texts without labels are learned from: {shown}")
        notes.append({"teacher_scores": record.scores, "rows_added": len(kept), "by_class": dict(by_class)})
        rows = _rows(pool, kept, [said[at] for at in kept], original.splits["train"], checked)
        checked = replace(checked, data=_with_rows(original, rows, notes))
    return checked


def _rows(pool: Split, kept: list[int], said: list[Prediction], train: Split, checked: CheckedRecipe) -> Split:
    """The chosen texts as training rows, with what the teacher says as their label."""
    (label,) = checked.recipe.task.label_columns()
    chosen = take(pool, kept)
    columns = {name: chosen.columns.get(name, [None] * len(kept)) for name in train.columns}
    return Split("train", chosen.index, {**columns, label: [each.prediction for each in said]}, pool.source)


def _with_rows(data: LoadedData, rows: Split, notes: list[dict[str, Any]]) -> LoadedData:
    """The data with the rows; the summary's fingerprint and rows stay those of the source's."""
    added = [data.summary.added_rows_fingerprint or "", fingerprint({"train": rows})]
    changes = {"notes": {**data.summary.notes, NOTE: notes}, "added_rows_fingerprint": "".join(added)}
    train = join_rows([data.splits["train"], rows])
    return replace(data, splits={**data.splits, "train": train}, summary=data.summary.model_copy(update=changes))
