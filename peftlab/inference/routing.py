"""Runs that have learned one task each, and a router: a row is answered by the run whose training texts are nearest.

Nearest is the mean vector of a run's training texts, in the space of the frozen base, so that the router learns nothing
and forgets nothing (nearest class mean: Mensink et al. 2013, https://hal.science/hal-00817211).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.devices import choose_device
from peftlab.core.errors import UnsupportedError
from peftlab.core.past import EARLIER_TEST
from peftlab.core.record import Routed
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.text_vectors import mean_states
from peftlab.inference.tuned_model import TunedModel
from peftlab.preparation.load_data import load_data

Vectors = NDArray[np.float64]


def route_runs(
    folders: Sequence[Path], *, offline: bool, device: torch.device | None = None, report: ProgressCallback
) -> list[Routed]:
    """Score runs of tasks in a row together, with a router that chooses among those so far.

    Args:
        folders: Of the runs, in the order of their tasks; each went on from the one before, with no weights and no rows
            of it.
        offline: Allow no network.
        device: Where it computes; None: CUDA where it is there.
        report: Is told of downloads.

    Returns:
        For each run but the first: how it and those before it do together.

    Raises:
        UserError: A run or its data cannot be read.
        UnsupportedError: The task has not one answer a row that comes from a text's logits.
    """
    device = device or choose_device()
    runs = [SavedRun.open(folder) for folder in folders]
    data = [load_data(run.recipe, offline=offline, report=report).splits for run in runs]
    count, last = len(runs), data[-1]
    tests = [*(last[f"{EARLIER_TEST}{number}"] for number in range(1, count)), last["test"]]
    answers: list[list[list[Prediction]]] = []
    distances: list[Vectors] = []
    for number, run in enumerate(runs):
        tuned = load_tuned(run, offline=offline, device=device, report=report)
        if number == 0:
            distances = _distances(run, tuned, [each["train"] for each in data], tests, offline=offline, device=device)
        answers.append([_answers(tuned, test) for test in tests])
    return [_routed(runs[at], at, answers, distances) for at in range(1, count)]


def _routed(
    run: SavedRun, at: int, answers: Sequence[Sequence[Sequence[Prediction]]], distances: Sequence[Vectors]
) -> Routed:
    """Of the runs up to one, on the test rows up to its own."""

    def scores(on: int, among: int) -> tuple[dict[str, float], float]:
        chosen = distances[on][:, :among].argmin(axis=1)
        scorer = run.recipe.scorer(run.labels)
        scorer.add([answers[who][on][row] for row, who in enumerate(chosen)])
        return scorer.compute(), float((chosen == on).mean())

    names = [*(f"{EARLIER_TEST}{number}" for number in range(1, at + 1)), "test"]
    found = {name: scores(on, at + 1) for on, name in enumerate(names)}
    return Routed(
        scores={name: own for name, (own, _) in found.items()},
        before=scores(at, at)[0],
        right={name: right for name, (_, right) in found.items()},
    )


def _answers(tuned: TunedModel, rows: Split) -> list[Prediction]:
    examples = tuned.encode(rows).examples
    if len(examples) != len(rows) or not tuned.task.predicts_from_logits:
        raise UnsupportedError(
            f"a router needs one answer for each row, and the task {tuned.task.registered_name} has others"
        )
    return tuned.predict(examples)


def _distances(
    run: SavedRun,
    tuned: TunedModel,
    trained: Sequence[Split],
    tests: Sequence[Split],
    *,
    offline: bool,
    device: torch.device,
) -> list[Vectors]:
    """Of each test split, rows × runs: the squared distance to the mean of each run's training texts."""
    base = run.load_base(offline=offline, device=device)
    means = np.stack([_vectors(base, tuned, rows, device).mean(axis=0) for rows in trained])
    vectors = [_vectors(base, tuned, rows, device) for rows in tests]
    return [np.stack([((own - mean) ** 2).sum(axis=1) for mean in means], axis=1) for own in vectors]


def _vectors(base: torch.nn.Module, tuned: TunedModel, rows: Split, device: torch.device) -> Vectors:
    """Unit vectors, in the order of the rows."""
    examples = tuned.encode(rows).examples
    found = dict[int, Vectors]()
    for positions in tuned.batches(tuned.task.lengths(examples)):
        batch = tuned.task.collate([examples[at] for at in positions], tuned.tokenizer.pad_token_id)
        if "attention_mask" not in batch:
            raise UnsupportedError("a router goes by texts, and this model reads none")
        states = mean_states(base, {name: value.to(device) for name, value in batch.items()})
        unit = torch.nn.functional.normalize(states, dim=1).double().cpu().numpy()
        found.update(zip(positions, unit, strict=True))
    return np.stack([found[at] for at in range(len(examples))])
