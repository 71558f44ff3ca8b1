"""``build_ensemble``: runs of one task become a folder that answers with the mean of what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from peftlab.artifact.saved_ensemble import MEMBERS, EnsembleDescription, Member, copy_member, write_ensemble
from peftlab.core.files import atomic_folder
from peftlab.core.reporter import Reporter
from peftlab.core.task import Task
from peftlab.inference.ensemble.earlier import ALREADY, earlier_ensemble
from peftlab.inference.ensemble.members import held_out_rows, open_members
from peftlab.inference.ensemble.scoring import (
    Said,
    ask,
    best_run,
    by_split,
    calibration_of,
    intervals_of,
    judged_by,
    notes_of,
    paired_test,
    scores_of,
    write_predictions,
)
from peftlab.inference.ensemble.tuned_ensemble import TunedEnsemble
from peftlab.inference.export.export import check_output
from peftlab.inference.load_tuned import load_members


def build_ensemble(
    folders: Sequence[Path],
    output: Path,
    *,
    offline: bool,
    device: torch.device | None = None,
    reporter: Reporter,
) -> EnsembleDescription:
    """Make an ensemble, and score it and each of its runs on rows that none of them has seen.

    Args:
        folders: Of two runs or more.
        output: The folder to make; it appears once all is measured.
        offline: Allow no network.
        device: Where the models compute; None: CUDA where it is there.
        reporter: Tells a person.

    Raises:
        UserError: The runs do not go together, or the folder is in use.
    """
    runs = open_members(folders)
    if (earlier := earlier_ensemble(runs, output)) is not None:
        reporter.say(ALREADY.format(output))
        return earlier.description
    check_output(output, folders)
    held = held_out_rows(runs, offline=offline, report=reporter.say)
    models = load_members(runs, offline=offline, device=device, report=reporter.say)
    each = [ask(model, held.splits, reporter, str(run.folder)) for run, model in zip(runs, models, strict=True)]
    together = TunedEnsemble.of_members(models, name=output.resolve().name, folder=output)
    task = _with_answers(together.task, each, together.labels)
    said = pooled(task, each, together.labels)
    recipe, labels = together.recipe, together.labels
    scores, own = scores_of(said, recipe, labels), [scores_of(one, recipe, labels) for one in each]
    intervals, metric = intervals_of(said, scores), judged_by(recipe)
    best, chosen_on = best_run(own, metric)
    description = EnsembleDescription(
        name=together.name,
        members=[
            Member(run=run.name, seed=run.recipe.seed, folder=str(at), origin=str(run.folder), scores=of_run)
            for at, (run, of_run) in enumerate(zip(runs, own, strict=True), start=1)
        ],
        learned=dict(task.learned),
        rows={name: len(split) for name, split in held.splits.items()},
        rows_left_out=dict(held.left_out),
        scores=scores,
        intervals=by_split(intervals),
        notes=notes_of(intervals),
        expected_calibration_error=calibration_of(said, task, labels),
        comparison=paired_test(said, each[best], metric, best=str(best + 1), chosen_on=chosen_on),
    )
    with atomic_folder(output) as partial:
        for at, run in enumerate(runs, start=1):
            copy_member(run, partial / MEMBERS / str(at))
        write_predictions(partial, held.splits, said)
        write_ensemble(description, partial)
    return description


def pooled(task: Task, each: Sequence[Said], labels: tuple[str, ...]) -> Said:
    """What models say together of every row."""
    return {
        name: [task.pool(own, labels) for own in zip(*(one[name] for one in each), strict=True)] for name in each[0]
    }


def _with_answers(task: Task, each: Sequence[Said], labels: tuple[str, ...]) -> Task:
    """The task with what is chosen on the validation split, such as thresholds, for the mean and not for one run."""
    if not task.learns_answers or "validation" not in each[0]:
        return task
    chosen: Mapping[str, Any] = task.learn_answers(pooled(task, each, labels)["validation"], labels)
    return task.fitted({**task.learned, **chosen})
