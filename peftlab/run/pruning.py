"""Pruning: training rows whose labels look wrong to runs that have not learned them are left out."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.core.config import replace_config
from peftlab.core.errors import DataError, RunFailedError, UnsupportedError
from peftlab.core.files import write_text
from peftlab.core.record import PARTS
from peftlab.core.reporter import Reporter
from peftlab.core.splits import Split
from peftlab.data.columns import take
from peftlab.data.duplicates import text_key
from peftlab.data.pruning import folds_of
from peftlab.data.splits import LoadedData, summarise_splits
from peftlab.packs.runs import read_run_predictions
from peftlab.preparation.check import CheckedRecipe
from peftlab.preparation.earlier_rows import REPLAYED
from peftlab.run.run_folder import RunFolder
from peftlab.run.side_runs import Execute, plain, run_beside

FOLDER = "pruning"
LIST_NAME = "pruned.jsonl"
NOTE = "pruning"


def pruned(
    checked: CheckedRecipe, folder: Path, execute: Execute, *, reporter: Reporter, processes: int = 1
) -> CheckedRecipe:
    """The recipe without the training rows that ``data.prune`` leaves out; validation and test rows stay as they are.

    Each fold is a run in ``pruning/<fold>``; one that has ended is not run again. What is left out is listed in
    ``pruned.jsonl`` and counted in the record's notes; the summary's rows and fingerprint stay those of the source's.

    Args:
        checked: With its data.
        folder: The run's.
        execute: Runs a fold.
        reporter: Tells a person.
        processes: That train together.

    Raises:
        DataError: There are fewer rows, or texts, than folds.
        RunFailedError: A fold has failed, or was stopped.
        UnsupportedError: There are several processes.
    """
    settings = None if checked.recipe.data is None else checked.recipe.data.prune
    if settings is None:
        return checked
    if processes > 1:
        raise UnsupportedError("folds are tuned in one process", where="data.prune", hint="Leave --processes out.")
    own = checked.data.summary.rows["train"]  # copies that augmentation has made come after them
    train = checked.data.splits["train"]
    if own < 2 * settings.folds:
        raise DataError(
            f"{own} training rows are too few for {settings.folds} folds",
            where="data.prune.folds",
            hint="Set fewer, or leave data.prune out.",
        )
    labels = _classes(checked, take(train, range(own)))
    keys = [text_key(texts) for texts in checked.recipe.task.compared_texts(take(train, range(own)))]
    folds = folds_of(labels, settings.folds, checked.recipe.seed, keys)
    if len(np.unique(folds)) < settings.folds:
        raise DataError(
            f"the training rows have {len(set(keys))} different texts, too few for {settings.folds} folds",
            where="data.prune.folds",
            hint="Set fewer, or leave data.prune out.",
        )
    probabilities = np.empty((own, len(checked.labels)))
    scores = []
    for number in range(settings.folds):
        held_out = np.flatnonzero(folds == number)
        place = RunFolder(folder / FOLDER / str(number + 1))
        name = f"fold {number + 1} of {settings.folds}, to look for wrong labels"
        record = run_beside(_without(checked, held_out), place, execute, reporter=reporter, name=name)
        probabilities[held_out] = _answers(place.path, held_out)
        for part in PARTS:  # only the answers are needed from here on
            shutil.rmtree(place.path / part, ignore_errors=True)
        scores.append(dict(record.scores.get("test", {})))
    chosen = settings.chosen(labels, probabilities)
    by_class = Counter(checked.labels[labels[at]] for at in chosen)
    shown = ", ".join(f"{name} {by_class[name]}" for name in checked.labels[:12])
    reporter.say(f"{len(chosen)} of {own} training rows are left out, since their labels look wrong: {shown}")
    write_text(folder / LIST_NAME, _listed(checked, train, chosen, labels, probabilities))
    note = {"rows_left_out": len(chosen), "of": own, "by_class": dict(by_class), "fold_scores": scores}
    return replace(checked, data=_left(checked.data, chosen, note))


def _classes(checked: CheckedRecipe, rows: Split) -> NDArray[np.int64]:
    positions = {name: at for at, name in enumerate(checked.labels)}
    return np.array([positions[name] for name in checked.recipe.task.strata(rows) or ()], dtype=np.int64)


def _without(checked: CheckedRecipe, held_out: NDArray[np.int64]) -> CheckedRecipe:
    """The recipe of a fold: it learns from the other rows and their copies, and is tested on those held out."""
    splits, out = checked.data.splits, sorted(held_out.tolist())
    asked = replace(take(splits["train"], out, name="test"), index=out)
    fold = {**{name: split for name, split in splits.items() if name == "validation"}, "test": asked}
    fold = {"train": take(splits["train"], _others(checked.data, out)), **fold}
    data = replace(checked.data, splits=fold, summary=summarise_splits(fold))
    evaluation = replace_config(checked.recipe.evaluation, test=True)
    return replace(plain(checked, evaluation=evaluation), data=data)


def _others(data: LoadedData, out: Sequence[int]) -> list[int]:
    """The places of all training rows but some of the source's and their copies.

    A copy carries its row's number in the source. So does a row of an earlier run that is learned again, but that is a
    number of another table.
    """
    train, own, away = data.splits["train"], data.summary.rows["train"], set(out)
    copies_from = own + int(data.summary.notes.get(REPLAYED, 0))
    numbers = {train.index[at] for at in away}
    return [at for at in range(len(train)) if (at not in away if at < copies_from else train.index[at] not in numbers)]


def _answers(folder: Path, held_out: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a fold says of the rows that it has not learned, in their order."""
    table = read_run_predictions(folder, ["split", "index", "scores"])
    rows = [] if table is None else [row for row in table.to_pylist() if row["split"] == "test"]
    found = {row["index"]: row["scores"] for row in rows}
    if set(found) != set(held_out.tolist()):
        raise RunFailedError("its predictions are of other rows", where=str(folder), hint="Delete this folder.")
    return np.array([found[at] for at in held_out.tolist()], dtype=np.float64)


def _listed(
    checked: CheckedRecipe,
    train: Split,
    chosen: Sequence[int],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
) -> str:
    """One JSON object a line for each row that is left out, the most suspicious first."""
    lines = []
    for at in chosen:
        likeliest = int(probabilities[at].argmax())
        row: dict[str, Any] = {
            "row": train.index[at] + 1,
            **{name: train.columns[name][at] for name in checked.recipe.task.text_columns()},
            "label": checked.labels[labels[at]],
            "probability": round(float(probabilities[at, labels[at]]), 4),
            "likeliest": checked.labels[likeliest],
            "its_probability": round(float(probabilities[at, likeliest]), 4),
        }
        lines.append(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    return "".join(lines)


def _left(data: LoadedData, chosen: Sequence[int], note: dict[str, Any]) -> LoadedData:
    """The data without the rows, and without the copies that augmentation has made of them."""
    train = take(data.splits["train"], _others(data, chosen))
    summary = data.summary.model_copy(update={"notes": {**data.summary.notes, NOTE: [note]}})
    return replace(data, splits={**data.splits, "train": train}, summary=summary)
