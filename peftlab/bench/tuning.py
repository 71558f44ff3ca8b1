"""Equal tuning for every method: the same number of settings, halved by their score on the validation split.

The first settings stand on a ladder around the method's own default learning rate: the default, three times as much,
a third, ten times, a tenth. Further ones are drawn at random within the suite's range (Bergstra and Bengio 2012,
https://jmlr.org/papers/v13/bergstra12a.html). All are tried on a part of the training split, the better half of them on
twice as much, and so on: synchronous successive halving (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943).
Optuna's own pruner is the asynchronous form, which always promotes the first trial: with four trials that would favour
whatever is tried first. Every trial is a run of its own with its own schedule down to zero, not a long run cut short.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftlab.bench.cells import LEARNING_RATE, Cell
from peftlab.bench.search_space import SearchSpace, method_space
from peftlab.bench.studies import JOURNAL_NAME, new_sampler, open_study
from peftlab.bench.suite import Tuning
from peftlab.core.files import write_text
from peftlab.core.method import METHODS
from peftlab.core.record import RunRecord
from peftlab.recipe.schema import Recipe

_JOURNAL_LOCK = threading.Lock()
LADDER = (1.0, 3.0, 1 / 3, 10.0, 0.1)
"""The first learning rates, as multiples of the method's default."""
REDUCTION = 2
"""One of so many settings goes on to the next rung."""
SMALLEST_RUNG = 500
"""Trials on fewer training examples say too little."""

RunTrial = Callable[[Recipe, str], RunRecord]
"""Runs a recipe as the trial of that name and returns its record."""


@dataclass
class Trial:
    """One setting, and what became of it on a rung."""

    number: int
    settings: dict[str, Any]
    score: float | None = None
    status: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "number": self.number,
            "parameters": self.settings,
            "score": self.score,
            "status": self.status,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class Rung:
    """Trials that trained on equally many examples."""

    train_examples: int
    trials: list[Trial] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """What tuning has found.

    Args:
        settings: The best setting, by the recipe's keys; None where every trial failed.
        error: The first trial's error, where every trial failed.
    """

    settings: dict[str, Any] | None
    error: str | None = None


def plan_rungs(trials: int, train_examples: int) -> list[tuple[int, int]]:
    """How many trials run on how many training examples, rung by rung.

    A single trial needs no rung: there is nothing to choose. The last rung has two trials at half of the examples or
    more, of which the better one is taken.

    Args:
        trials: Of the suite's budget.
        train_examples: In the training split.

    Returns:
        Pairs of trials and examples; the examples double from rung to rung.
    """
    if trials == 1:
        return []
    counts = [trials]
    while counts[-1] > REDUCTION:
        counts.append(math.ceil(counts[-1] / REDUCTION))
    floor = min(SMALLEST_RUNG, train_examples)
    sizes = [max(floor, math.ceil(train_examples / REDUCTION ** (len(counts) - at))) for at in range(len(counts))]
    # Rungs of equal size would try the same thing twice.
    return [(count, size) for at, (count, size) in enumerate(zip(counts, sizes, strict=True)) if size not in sizes[:at]]


def trial_name(cell: Cell, number: int, examples: int) -> str:
    """The folder of a trial."""
    return f"{cell.name}--trial{number}-on-{examples}"


def trial_recipe(cell: Cell, settings: Mapping[str, Any], *, seed: int, train_examples: int) -> Recipe:
    """The recipe of a trial: fewer examples, the test split is left alone, and only the score is asked for."""
    fewer = {cell.recipe({}, seed=seed).train_rows_key: train_examples}
    return cell.recipe({**settings, **fewer, "evaluation.test": False, "measure": False}, seed=seed)


def tune(
    cell: Cell, tuning: Tuning, *, seed: int, train_examples: int, higher_is_better: bool, folder: Path, run: RunTrial
) -> Choice:
    """Find a cell's settings; whatever earlier processes have found is not done again.

    Args:
        cell: The method at one point of the axes.
        tuning: The budget.
        seed: Of the trials; none of the suite's own.
        train_examples: Rows of the training split.
        higher_is_better: Of the metric that chooses.
        folder: The suite's ``tuning/``: Optuna's journal, and one JSON file per cell for the report.
        run: Runs one trial.

    Returns:
        The best setting.
    """
    candidates = [Trial(number, settings) for number, settings in enumerate(propose_settings(cell, tuning, seed=seed))]
    rungs: list[Rung] = []
    error = None
    for count, examples in plan_rungs(tuning.trials, train_examples):
        rung = Rung(examples)
        rungs.append(rung)
        for candidate in candidates[:count]:
            recipe = trial_recipe(cell, candidate.settings, seed=seed, train_examples=examples)
            record = run(recipe, trial_name(cell, candidate.number, examples))
            error = error or record.error
            trial = Trial(candidate.number, candidate.settings, _score(record), record.status, record.seconds)
            rung.trials.append(trial)
        candidates = _best_first(rung.trials, higher_is_better=higher_is_better)
    chosen = candidates[0] if candidates else None
    metric = str(cell.recipe({}, seed=seed).evaluation.metric)
    summary = {
        "method": cell.name,
        "metric": metric,
        "higher_is_better": higher_is_better,
        "rungs": [{"train_examples": r.train_examples, "trials": [t.as_json() for t in r.trials]} for r in rungs],
        "chosen": chosen.settings if chosen else None,
        "chosen_trial": chosen.number if chosen else None,
    }
    store_trials(cell, tuning, rungs, maximize=higher_is_better, journal=folder / JOURNAL_NAME)
    write_text(folder / f"{cell.name}.json", json.dumps(summary, indent=2) + "\n")
    return Choice(chosen.settings, None) if chosen else Choice(None, error)


def _best_first(trials: list[Trial], *, higher_is_better: bool) -> list[Trial]:
    scored = [(trial.score, trial) for trial in trials if trial.score is not None]
    return [trial for _, trial in sorted(scored, key=lambda item: item[0], reverse=higher_is_better)]


def _score(record: RunRecord) -> float | None:
    """On the validation split; None for a run that failed."""
    if record.status != "success":
        return None
    return record.scores.get("validation", {}).get(record.recipe["evaluation"]["metric"])


# --- Optuna: which settings are tried, and the journal that keeps what came of them --------------------------------


def _space(cell: Cell, tuning: Tuning) -> SearchSpace:
    low, high = tuning.learning_rate
    return method_space(cell.document.values["method"]["type"], (low, high))


def propose_settings(cell: Cell, tuning: Tuning, *, seed: int) -> list[dict[str, Any]]:
    """The settings that a cell's budget is spent on; equal arguments give equal ones.

    Args:
        cell: The method at one point of the axes.
        tuning: The budget.
        seed: Of what is drawn at random.

    Returns:
        As many as the budget has trials, each by the recipe's keys. The first is the method's own default, where that
        lies in the suite's range.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    method = METHODS.get(cell.document.values["method"]["type"])
    low, high = tuning.learning_rate
    defaults = {key: choices[0] for key, choices in method.search_space.items()}
    study = optuna.create_study(sampler=new_sampler("random", seed=seed))
    for step in LADDER:
        rate = step * method.default_learning_rate
        if low <= rate <= high:
            study.enqueue_trial({LEARNING_RATE: rate, **(defaults if step == 1 else {})})
    space = _space(cell, tuning)
    return [space.settings(study.ask(space.distributions()).params) for _ in range(tuning.trials)]


def store_trials(cell: Cell, tuning: Tuning, rungs: list[Rung], *, maximize: bool, journal: Path) -> None:
    """Write a cell's trials into a journal of Optuna's, for its dashboard and for whoever wants to go on from there.

    A trial is complete where it reached the last rung, pruned where it did not, and failed where its run did.
    """
    import optuna
    from optuna.trial import TrialState

    states: dict[int, tuple[Trial, TrialState]] = {}
    values: dict[int, dict[int, float]] = {}
    for rung in rungs:
        for trial in rung.trials:
            reached = TrialState.COMPLETE if rung is rungs[-1] else TrialState.PRUNED
            states[trial.number] = (trial, reached if trial.score is not None else TrialState.FAIL)
            if trial.score is not None:
                values.setdefault(trial.number, {})[rung.train_examples] = trial.score
    distributions = _space(cell, tuning).distributions()
    with _JOURNAL_LOCK:
        study = open_study(journal, cell.name, maximize=maximize, anew=True)
        for number, (trial, state) in sorted(states.items()):
            study.add_trial(
                optuna.trial.create_trial(
                    params=trial.settings,
                    distributions=distributions,
                    value=trial.score if state is TrialState.COMPLETE else None,
                    intermediate_values=values.get(number),
                    state=state,
                )
            )
