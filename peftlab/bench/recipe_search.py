"""A search for a recipe's best settings: Optuna draws them, and each trial is a run in a process of its own.

Trials are judged by the validation split alone; no run of a search looks at the test split. The best of many trials
looks better than it is, since chance helped to choose it. So the winner runs again with fresh seeds, and both figures
are told. Whatever ends the search, the same call goes on from there: trials that are done are read from the journal,
and the one that was running is taken up at its last checkpoint.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.bench.at_once import do_at_once
from peftlab.bench.cells import Cell, same_examples
from peftlab.bench.search_result import SearchResult
from peftlab.bench.search_space import SearchSpace
from peftlab.bench.studies import JOURNAL_NAME, Pruner, Sampler, draw, new_sampler, open_study
from peftlab.bench.trial_curve import TrialCurve
from peftlab.bench.worker import Worker, is_done, is_of_recipe, is_same, move_aside, remove_weights, why_failed
from peftlab.core.amounts import duration
from peftlab.core.config import Document
from peftlab.core.destination import SEARCH_NAME, check_folder
from peftlab.core.errors import ConfigError, RunFailedError, UserError
from peftlab.core.files import names_in, write_text
from peftlab.core.metric import METRICS
from peftlab.core.record import METRICS_NAME, RunRecord, read_record
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import Recipe, assign, write_recipe

BEST_NAME = "best.yaml"
"""What a trial leaves that nobody needs once its score is known."""
SCORE, SECONDS, ERROR = "score", "seconds", "error"
"""What the journal notes of a trial beside Optuna's own."""
DATA = "data"
"""What the search's folder notes of the data: their fingerprint."""


@dataclass(frozen=True)
class Budget:
    """How long a search goes on; trials of earlier calls count.

    Args:
        trials: So many at most; None: no limit.
        minutes: No trial begins once the trials have taken so many; None: no limit.
        seeds: Fresh seeds that the winner runs with.
    """

    trials: int | None
    minutes: float | None
    seeds: int


@dataclass(frozen=True)
class SearchSettings:
    """What a search is, beside its budget: it may not change when a search is taken up again."""

    space: SearchSpace
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"


def cell_of_recipe(recipe: Recipe, document: Document, *, offline: bool, reporter: Reporter) -> tuple[Cell, str]:
    """A recipe as what all trials share: checked, with its metric, and with the same rows whatever the seed.

    Returns:
        The cell, and the fingerprint of its data.

    Raises:
        UserError: The recipe, its model or its data is wrong, or there is no validation split to judge by.
    """
    checked = check_recipe(recipe, document, offline=offline, reporter=reporter)
    if "validation" not in checked.data.splits:
        raise ConfigError(
            "settings are chosen by the validation split, and there is none",
            where=document.source,
            hint="Set data.validation_fraction.",
        )
    values = {"name": recipe.name, **same_examples(document)}
    shared = assign(document, values, dict.fromkeys(values, document.source))
    cell = Cell(recipe.name, recipe.method.registered_name, (), shared)
    return cell.measured_by(str(checked.recipe.evaluation.metric)), checked.data.summary.fingerprint


class RecipeSearch:
    """One call of ``peftlab tune``.

    Args:
        cell: Makes recipes of settings.
        data: The fingerprint of the data, from :func:`cell_of_recipe`.
        search: What is searched, and how.
        folder: Of the search: its journal, its runs, and the recipe it ends with.
        worker: Runs the trials.
        workers: How many at once.
        reporter: Tells a person.
    """

    def __init__(
        self,
        cell: Cell,
        data: str,
        search: SearchSettings,
        folder: Path,
        worker: Worker,
        *,
        workers: int = 1,
        reporter: Reporter,
    ) -> None:
        self.cell, self.data, self.search, self.folder, self.worker = cell, data, search, folder, worker
        self.workers, self.reporter = workers, reporter
        self.own = cell.recipe({}, seed=cell.document.values.get("seed", 0))
        self.metric = str(self.own.evaluation.metric)
        self.maximize = METRICS[self.metric].higher_is_better
        self._lock = threading.Lock()

    def execute(self, budget: Budget) -> SearchResult:
        """Go on until the budget is spent, and run the winner with fresh seeds.

        Raises:
            RunFailedError: No trial came through.
            KeyboardInterrupt: The user stopped it; the same call goes on from there.
        """
        self._take_folder()
        study = open_study(self.folder / JOURNAL_NAME, self.own.name, maximize=self.maximize, pruner=self.search.pruner)
        if not study.trials:
            for parameters in self._first_trials(budget):
                study.enqueue_trial(parameters)
        self._run_trials(study, budget)
        complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
        if not complete:
            first = next((trial.user_attrs[ERROR] for trial in study.trials if ERROR in trial.user_attrs), None)
            raise RunFailedError(f"no trial succeeded; the first: {first}", where=str(self.folder))
        sign = 1 if self.maximize else -1
        best = max(complete, key=lambda trial: (sign * trial.value, -trial.number))
        settings = self.search.space.settings(best.params)
        fresh = self._run_fresh(best.number, settings, budget.seeds)
        result = SearchResult(
            recipe=self.folder / BEST_NAME,
            metric=self.metric,
            settings=settings,
            best_score=best.value,
            fresh_scores=fresh,
            own_score=self._own_score(complete),
            tied=sum(trial.value == best.value for trial in complete),
            trials={
                word: sum(trial.state.name == state for trial in study.trials)
                for word, state in (("complete", "COMPLETE"), ("pruned", "PRUNED"), ("failed", "FAIL"))
            },
            seconds=_seconds(study),
        )
        self._write_best(result)
        return result

    # --- trials -------------------------------------------------------------------------------------------------------

    def _run_trials(self, study: Any, budget: Budget) -> None:
        left = [trial for trial in study.trials if trial.state.name == "RUNNING"]
        begun = sum(trial.state.is_finished() for trial in study.trials) + len(left)
        distributions = self.search.space.distributions()

        def take() -> tuple[int, Any, dict[str, Any]] | None:
            """The next trial: one that was running when the search was ended, else a new one."""
            import optuna

            nonlocal begun
            with self._lock:
                if not left and not self._may_begin(study, budget, begun):
                    return None
                number = left[0].number if left else begun
                seed = 1_000_003 * self.own.seed + number
                study.sampler = new_sampler(self.search.sampler, seed=seed % 2**32, in_parallel=self.workers > 1)
                if left:
                    trial = optuna.Trial(study, left.pop(0)._trial_id)
                else:
                    trial, begun = study.ask(), begun + 1
                return trial.number, trial, self.search.space.settings(draw(trial, distributions))

        def work() -> None:
            while (taken := take()) is not None:
                self._run_trial(study, *taken)

        with progress_bar(self.reporter, "trials", max(0, (budget.trials or 0) - begun + len(left))):
            self._at_once([work] * self.workers)

    def _first_trials(self, budget: Budget) -> list[dict[str, Any]]:
        """The recipe's own settings; where the budget is enough for all combinations, each of them once."""
        own, every = self.search.space.parameters_of(self.own), self.search.space.every()
        if every is None or (budget.trials is not None and budget.trials < len(every)):
            return [own]
        return sorted(every, key=lambda parameters: parameters != own)

    def _own_score(self, complete: list[Any]) -> float | None:
        """Of the trial with the recipe's own settings, if the space has them all: else no trial is the recipe's."""
        own = self.search.space.parameters_of(self.own)
        return next((trial.value for trial in complete if trial.params == own), None)

    def _may_begin(self, study: Any, budget: Budget, begun: int) -> bool:
        every = self.search.space.every()
        if self.worker.stopped or (budget.trials is not None and begun >= budget.trials):
            return False
        if every is not None and begun >= len(every) and len(every) == len({str(t.params) for t in study.trials}):
            return False
        return budget.minutes is None or _seconds(study) / self.workers < 60 * budget.minutes

    def _run_trial(self, study: Any, number: int, trial: Any, settings: dict[str, Any]) -> None:
        folder = self.folder / "trials" / f"trial{number}"
        told = max(study.trials[number].intermediate_values, default=0)
        curve = TrialCurve(folder / METRICS_NAME, self.metric, trial, told)
        recipe = self._recipe(settings, self.own.seed)
        record, seconds = self._run(recipe, folder, goes_on=curve.goes_on)
        goes_on, score = curve.goes_on(), self._score(record)
        if goes_on:
            curve.finish()
        trial.set_user_attr(SECONDS, round(seconds, 2))
        if not goes_on or record.status == "diverged":
            if goes_on:
                trial.set_user_attr(ERROR, record.error or record.status)
            study.tell(trial, state=_state("PRUNED"))
            outcome = f"ended early at {self.metric} {curve.last:.4f}" if not goes_on else "diverged"
        elif score is None:
            trial.set_user_attr(ERROR, record.error or record.status)
            study.tell(trial, state=_state("FAIL"))
            outcome = why_failed(record)
        else:
            study.tell(trial, score)
            outcome = f"{self.metric} {score:.4f}"
        self.reporter.say(f"trial {number}: {outcome}, {duration(seconds)}  ({describe(settings)})")
        self.reporter.advance(1)

    def _recipe(self, settings: dict[str, Any], seed: int) -> Recipe:
        """A run of the search: the test split is left alone, and only the score is asked for."""
        return self.cell.recipe({**settings, "evaluation.test": False, "measure": False}, seed=seed)

    def _run(self, recipe: Recipe, folder: Path, goes_on: Callable[[], bool] | None = None) -> tuple[RunRecord, float]:
        if is_done(folder, recipe):
            record = read_record(folder)
            seconds = record.seconds
        else:
            if folder.exists() and not is_of_recipe(folder, recipe):
                move_aside(folder, self.folder / "replaced")
            finished = self.worker.run(recipe, folder, goes_on=goes_on)
            record, seconds = finished.record, finished.wall_seconds
        if self.worker.stopped:
            raise KeyboardInterrupt
        remove_weights(folder)
        return record, seconds

    def _score(self, record: RunRecord) -> float | None:
        return record.scores.get("validation", {}).get(self.metric) if record.status == "success" else None

    # --- the winner ---------------------------------------------------------------------------------------------------

    def _run_fresh(self, number: int, settings: dict[str, Any], count: int) -> dict[int, float]:
        scores: dict[int, float] = {}

        def run(seed: int) -> None:
            folder = self.folder / "winner" / f"trial{number}--seed{seed}"
            record, seconds = self._run(self._recipe(settings, seed), folder)
            score = self._score(record)
            if score is not None:
                scores[seed] = score
            outcome = f"{self.metric} {score:.4f}" if score is not None else f"{record.status}: {record.error}"
            self.reporter.say(f"the winner with seed {seed}: {outcome}, {duration(seconds)}")
            self.reporter.advance(1)

        seeds = [self.own.seed + offset for offset in range(1, count + 1)]
        with progress_bar(self.reporter, "fresh seeds", count):
            self._at_once([functools.partial(run, seed) for seed in seeds])
        return dict(sorted(scores.items()))

    def _at_once(self, works: list[Callable[[], None]]) -> None:
        """Work on several things; Ctrl-C stops the processes, which can be taken up again."""
        do_at_once(works, workers=self.workers, stop=self.worker.stop)

    def _write_best(self, result: SearchResult) -> None:
        path = result.recipe
        write_recipe(self.cell.recipe(result.settings, seed=self.own.seed), path)
        mean = result.fresh_mean
        lines = [
            f"Found by `peftlab tune` in {sum(result.trials.values())} trials. Validation {self.metric}:",
            f"{result.best_score:.4f} as the best of them"
            + (f", {mean:.4f} on average with {len(result.fresh_scores)} fresh seeds." if mean is not None else "."),
            *([f"Of the best: {result.tie}."] if result.tie else []),
        ]
        write_text(path, "".join(f"# {line}\n" for line in lines) + path.read_text(encoding="utf-8"))

    # --- the folder ---------------------------------------------------------------------------------------------------

    def _take_folder(self) -> None:
        """Write down what the search is.

        Raises:
            UserError: The folder holds another search, or other things, or the data have changed.
        """
        what = {
            "metric": self.metric,
            "sampler": self.search.sampler,
            "pruner": self.search.pruner,
            "space": self.search.space.as_json(),
        }
        path = self.folder / SEARCH_NAME
        if path.exists():
            there = json.loads(path.read_text(encoding="utf-8"))
            recipe = there.pop("recipe")
            # Trials that are done are known by their recipes, which say nothing of what a file holds.
            if there.pop(DATA, self.data) != self.data:
                raise UserError(
                    "the data have changed since the search was begun",
                    where=str(self.folder),
                    hint="Bring them back as they were, or choose another --output-dir: trials on other rows cannot be "
                    "compared.",
                )
            changed = [name for name, value in what.items() if there.get(name) != value]
            if not is_same(recipe, self.own, source=str(path)):
                changed.append("recipe")
            if changed:
                raise UserError(
                    f"the search in this folder has another {' and another '.join(changed)}",
                    where=str(self.folder),
                    hint="Choose another --output-dir for a new search.",
                )
            return
        own = self.own.model_dump(mode="json")
        write_text(path, json.dumps({**what, DATA: self.data, "recipe": own}, indent=2) + "\n")


def refuse_foreign(folder: Path, *, inputs: list[str]) -> None:
    """Refuse a folder that holds anything but a search.

    Raises:
        UserError: It is a file, holds other things, lies in a run's folder, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError("the search's folder is a file", where=str(folder), hint="Choose another --output-dir.")
    there = names_in(folder)
    if not there - {".lock"}:
        check_folder(folder, option="--output-dir", inputs=inputs)
    elif SEARCH_NAME not in there:
        raise UserError(
            "the folder holds other things, and no search", where=str(folder), hint="Choose another --output-dir."
        )


def describe(settings: dict[str, Any]) -> str:
    """Settings on a line, by the last word of each key."""
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in settings.items())


def _seconds(study: Any) -> float:
    return float(sum(trial.user_attrs.get(SECONDS, 0.0) for trial in study.trials))


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
